from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from archsearch.evidence.layers import blocks, first_tensor
from archsearch.evidence.watch import Watch

# B batch, C channels, H W space, K classes, U units


class Odd(nn.Module):
    """An MLP with a layer that the forward pass leaves out, a layer in groups, and a 1×1 convolution as its head."""

    feature_info = ()

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU()
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.unused = nn.Linear(8, 8)
        self.head = nn.Conv2d(8, 10, 1)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        y_BCHW = self.grouped(self.act(self.conv(x_BCHW)))
        return self.head(y_BCHW.mean((2, 3), keepdim=True)).flatten(1)


def test_layers_are_shapes_in_order_and_positions_in_one_image(batch) -> None:
    found = batch.observe(Odd()).layers
    rows = [(x.name, x.d_out, x.d_in, x.groups, x.taps, x.positions, x.is_head) for x in found]
    assert rows == [
        ("conv", 4, 9, 1, 9, 16, False),
        ("grouped", 8, 18, 2, 9, 16, False),
        ("unused", 8, 8, 1, 1, 0, False),
        ("head", 10, 8, 1, 1, 1, True),
    ]


def test_parameters_and_macs_are_the_whole_networks(batch, net) -> None:
    evidence = batch.observe(net)
    assert evidence.params == sum(p.numel() for p in net.parameters())
    assert evidence.macs == sum(layer.params * layer.positions for layer in evidence.layers)
    assert evidence.batch_size == 16


def test_only_the_classifier_is_head(batch, net) -> None:
    (head,) = [layer.name for layer in batch.observe(net).layers if layer.is_head]
    assert net.get_submodule(head) is net.get_classifier()


def test_the_head_gradient_is_autograds(batch, net) -> None:
    seen = batch.observe(net, "head").student
    weight = net.get_classifier().weight
    (expected_KD,) = torch.autograd.grad(cross_entropy(net(batch.x_BCHW), batch.y_B), weight)
    torch.testing.assert_close(seen.head_gradient_KD, expected_KD, rtol=1e-4, atol=1e-6)


def test_so_it_is_with_many_labels(many, wide_net) -> None:
    seen = many.observe(wide_net, "head").student
    loss = binary_cross_entropy_with_logits(wide_net(many.x_BCHW), many.y_B, reduction="none").sum(1).mean()
    (expected_KD,) = torch.autograd.grad(loss, wide_net.get_classifier().weight)
    torch.testing.assert_close(seen.head_gradient_KD, expected_KD, rtol=1e-4, atol=1e-6)


def test_so_it_is_of_a_convolution_as_head(batch) -> None:
    model = Odd()
    seen = batch.observe(model, "head").student
    (expected,) = torch.autograd.grad(cross_entropy(model(batch.x_BCHW), batch.y_B), model.head.weight)
    torch.testing.assert_close(seen.head_gradient_KD, expected.flatten(1), rtol=1e-4, atol=1e-6)


def test_what_is_not_read_is_not_made(batch, net) -> None:
    evidence = batch.observe(net)
    assert evidence.measured.keys() == {"student"}
    assert evidence.student.grams_BB == ()
    assert evidence.student.head_gradient_KD is None
    assert evidence.student.ntk_BB is None


def test_layers_that_nothing_passes_are_not_live(batch, build) -> None:
    model = build("cifar_resnet")
    dead = model.layer2[1]
    # With its first norm at zero, a block's second convolution sees nothing and its first one gets no gradient.
    nn.init.zeros_(dead.bn1.weight)
    live = {layer.name: bool(alive) for layer, alive in batch.observe(model, "live").live}
    assert [name for name, alive in live.items() if not alive] == ["layer2.1.conv2", "layer2.1.conv1"]


def test_behind_a_classifier_of_zeros_nothing_is_live(batch, net) -> None:
    nn.init.zeros_(net.get_classifier().weight)
    found = batch.observe(net, "live").live
    assert len(found) > 5
    assert [layer.is_head for layer, alive in found if alive] == [True]


def test_layers_the_backward_pass_does_not_reach_are_left_out(batch) -> None:
    evidence = batch.observe(Odd(), "live", "samples")
    assert {layer.name for layer, _ in evidence.live} == {"conv", "grouped", "head"}
    assert {samples.layer.name for samples in evidence.samples} == {"conv", "grouped", "head"}


def test_samples_know_how_many_weights_were_looked_at(batch) -> None:
    """Of a kernel its centre tap; without labels nobody asks how gradients agree."""
    evidence = batch.observe(Odd(), "samples", "label_samples")
    weights = {"conv": 4 * 1, "grouped": 8 * 2, "head": 10 * 8}
    assert {samples.layer.name: samples.weights for samples in evidence.samples} == weights
    assert all(samples.agreement is None for samples in evidence.samples)
    assert all(samples.agreement is not None for samples in evidence.label_samples)


def test_codes_are_products_of_signs_and_patterns_their_distinct_columns(batch) -> None:
    model = Odd()
    evidence = batch.observe(model, "codes", "patterns")
    code_BU = (model.conv(batch.x_BCHW) > 0).flatten(1)
    sign_BU = code_BU.float() * 2 - 1
    assert evidence.codes.units == code_BU.shape[1] == 4 * 16
    assert evidence.codes.products_BB.equal(sign_BU @ sign_BU.T)
    assert evidence.patterns == len({tuple(column) for column in code_BU.T.tolist()})


def test_without_activations_there_are_no_codes(batch) -> None:
    model = Odd()
    model.act = nn.Identity()
    evidence = batch.observe(model, "codes", "patterns")
    assert evidence.codes.products_BB is None
    assert (evidence.codes.units, evidence.patterns) == (0, 0)


def test_spectra_are_of_channels_in_maps_and_in_tokens(batch, net) -> None:
    evidence, expected = batch.observe(net, "spectra"), []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        map_BX = first_tensor(output).detach()
        rows = map_BX.permute(0, 2, 3, 1) if map_BX.ndim == 4 else map_BX
        covariance = np.cov(rows.reshape(-1, rows.shape[-1]).double().numpy(), rowvar=False, bias=True)
        expected.append(torch.from_numpy(np.linalg.eigvalsh(covariance)).float())

    for block in blocks(net):
        block.register_forward_hook(keep)
    net(batch.x_BCHW)
    assert len(evidence.spectra) == len(expected) >= 2
    for found_C, expected_C in zip(evidence.spectra, expected, strict=True):
        torch.testing.assert_close(found_C, expected_C, rtol=1e-3, atol=1e-5 * float(expected_C.max()))
        assert (found_C >= 0).all()


def test_hooks_go_even_when_the_network_fails(batch, net, every_read) -> None:
    with pytest.raises(RuntimeError), Watch(net, every_read):
        net(batch.x_BCHW.expand(-1, 5, -1, -1))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
