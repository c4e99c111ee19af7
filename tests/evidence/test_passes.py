from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from archsearch.evidence import passes

# B batch, C channels, H W space, N outputs, O outputs, I inputs


def map_of(block: nn.Module, x_BX: Tensor) -> tuple[Tensor, Tensor]:
    x_BX = x_BX.clone(memory_format=torch.preserve_format).requires_grad_()
    return x_BX, block(x_BX)


def mean_square(maps: tuple[Tensor, Tensor], draws: int) -> float:
    found = torch.stack([passes.gains([maps], spectral=False)[0] for _ in range(draws)])
    return found.square().mean().item()


LINEAR: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Conv2d(3, 4, 3, padding=1), (2, 3, 5, 5)),
    "stride": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 5, 5)),
    "tokens": (lambda: nn.Linear(6, 3), (2, 5, 6)),
}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("make", "shape"), LINEAR.values(), ids=LINEAR)
def test_a_gain_squared_is_on_average_the_jacobians_mean_square(
    make: Callable[[], nn.Module], shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    block, x_BX = make(), torch.randn(shape)
    if x_BX.ndim == 4:
        block, x_BX = block.to(memory_format=memory_format), x_BX.contiguous(memory_format=memory_format)
    jacobian = torch.autograd.functional.jacobian(block, x_BX)
    maps = map_of(block, x_BX)
    exact = jacobian.square().sum().item() / maps[1].numel()
    # A probe of 60 to 200 signs is some tenth off; four hundred of them a hundredth.
    assert mean_square(maps, 400) == pytest.approx(exact, rel=0.04)


def test_a_block_that_changes_nothing_has_the_gain_one() -> None:
    maps = map_of(nn.Identity(), torch.randn(2, 3, 4, 4))
    x_BX, output_BX = maps[0], maps[1] * 1
    assert passes.gains([(x_BX, output_BX)], spectral=False)[0].item() == pytest.approx(1)
    assert passes.gains([(x_BX, -3 * x_BX)], spectral=False)[0].item() == pytest.approx(3)


STEPS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "1×1": (lambda: nn.Conv2d(5, 4, 1), (16, 5, 16, 16)),
    "patches": (lambda: nn.Conv2d(3, 4, 2, stride=2), (32, 3, 24, 24)),
    "tokens": (lambda: nn.Linear(5, 4), (16, 256, 5)),
}


@pytest.mark.parametrize(("make", "shape"), STEPS.values(), ids=STEPS)
def test_a_spectral_gain_is_that_of_the_matrix_applied_at_each_position(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    """Over four thousand positions chance adds a few percent."""
    torch.manual_seed(0)
    block = make()
    expected = torch.linalg.matrix_norm(block.weight.detach().flatten(1), 2).item()
    (found,) = passes.gains([map_of(block, torch.randn(shape))], spectral=True)
    assert found.item() == pytest.approx(expected, rel=0.1)


def test_a_convolutions_spectral_gain_is_that_of_its_centre() -> None:
    """Seen at one position, a kernel of stride 1 is what links a pixel to the output above it."""
    torch.manual_seed(0)
    block = nn.Conv2d(4, 4, 3, padding=1)
    expected = torch.linalg.matrix_norm(block.weight.detach()[:, :, 1, 1], 2).item()
    (found,) = passes.gains([map_of(block, torch.randn(32, 4, 24, 24))], spectral=True)
    assert found.item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("spectral", [False, True])
def test_a_block_cut_off_has_no_gain(spectral: bool) -> None:
    x_BX = torch.randn(2, 3, 4, 4, requires_grad=True)
    elsewhere = torch.randn(2, 3, 4, 4, requires_grad=True) * 2
    found = passes.gains([(x_BX, elsewhere), (x_BX, x_BX * 0)], spectral=spectral)
    assert [gain.item() for gain in found] == [0, 0]
    assert passes.gains([], spectral=spectral) == ()


OWN = ("grasp", "zico", "zen", "synflow")


@pytest.mark.parametrize("read", OWN)
def test_a_pass_of_its_own_leaves_weights_modes_and_statistics(batch, net, read) -> None:
    net.train()
    net(batch.x_BCHW)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert passes.own(net, batch.x_BCHW, batch.y_B, {read}).keys() == {read}
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    assert all(value.dtype == before[name].dtype for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert all(p.grad is None for p in net.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize("read", OWN)
def test_so_it_does_when_the_network_fails_in_it(batch, net, read) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(RuntimeError):
        passes.own(net, batch.x_BCHW.expand(-1, 5, -1, -1), batch.y_B, {read})
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    assert all(p.dtype == torch.float32 for p in net.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_synflows_weights_are_a_copy_of_the_positive_ones(batch, net) -> None:
    weights = passes.synflow(net, batch.x_BCHW)
    parameters = dict(net.named_parameters())
    assert weights
    for weight in weights:
        assert weight.value.equal(parameters[weight.name].detach().double().abs())


def test_synflow_passes_maps_of_a_single_pixel(batch, build) -> None:
    """Batch norm in train mode refuses to normalise one image of one pixel, though its answer is not used."""
    weights = passes.synflow(build("cifar_resnet").train(), batch.x_BCHW[:, :, ::2, ::2])
    assert sum(weight.gradient.sum().item() for weight in weights) > 0


def test_zico_halves_the_batch(batch, net) -> None:
    measured = passes.own(net.train(), batch.x_BCHW, batch.y_B, {"zico"})
    for half, rows in zip(measured["zico"], (slice(0, 8), slice(8, 16)), strict=True):
        alone = passes.label_gradients(net, batch.x_BCHW[rows], batch.y_B[rows])
        assert [w.name for w in half] == [w.name for w in alone]
        for found, expected in zip(half, alone, strict=True):
            torch.testing.assert_close(found.gradient, expected.gradient)


def test_of_many_labels_zico_takes_the_binary_losses_gradients(many, wide_net) -> None:
    wide_net.train()
    first, _ = passes.own(wide_net, many.x_BCHW, many.y_B, {"zico"})["zico"]
    matrices = passes.matrices(wide_net)
    logits_BK = wide_net(many.x_BCHW[:8])
    loss = binary_cross_entropy_with_logits(logits_BK, many.y_B[:8], reduction="none").sum(1).mean()
    gradients = dict(zip(matrices, torch.autograd.grad(loss, list(matrices.values()), allow_unused=True), strict=True))
    assert len(first) > 3
    for weight in first:
        torch.testing.assert_close(weight.gradient, gradients[weight.name], rtol=1e-3, atol=1e-5)
