"""Measurements that need a pass of their own, made only for scores that name their proxies.

Each leaves the network as it found it: weights, modes and running statistics.
"""

# B batch, C channels, H W space, K classes, P parameters, N positions

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from archsearch.evidence.evidence import Read, Weight, Zen
from archsearch.evidence.layers import classifier, first_tensor, weighted
from archsearch.kernels import label_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

# Zen-Score's own step and repeats (Lin et al. 2021, algorithm 1).
_ZEN_STEP = 0.01
_ZEN_REPEATS = 8


def own(model: nn.Module, x_BCHW: Tensor, y: Tensor, reads: Set[Read]) -> dict[str, Any]:
    """Whatever of `reads` the common passes do not give."""
    measured: dict[str, Any] = {}
    with _kept_buffers(model):
        if "grasp" in reads:
            measured["grasp"] = grasp(model, x_BCHW, y)
        if "zico" in reads:
            halves = zip(x_BCHW.chunk(2), y.chunk(2), strict=True)
            measured["zico"] = tuple(label_gradients(model, *half) for half in halves)
        if "zen" in reads:
            measured["zen"] = zen(model, x_BCHW) if x_BCHW.is_floating_point() else None
        if "synflow" in reads:
            measured["synflow"] = synflow(model, x_BCHW) if x_BCHW.is_floating_point() else None
    return measured


def gains(
    block_maps: list[tuple[Tensor, Tensor]], *, spectral: bool, mask_BT: Tensor | None = None
) -> tuple[Tensor, ...]:
    """For each block, how much it stretches a gradient, by one probe of random signs; 0 where it passes nothing on.

    Either the Frobenius norm of the Jacobian per output: for independent signs v, E ‖Jᵀv‖² = ‖J‖²_F and ‖v‖² counts
    the outputs. Or the spectral norm of the mean Jacobian at one position (AZ-NAS, Lee and Ham 2024, section 3.2).
    A probe runs through one block alone, so all blocks together cost one backward pass to activations.

    Args:
        mask_BT: Of tokens, which are real: the outputs at others are neither probed nor counted.
    """
    import torch

    found: list[Tensor] = []
    if not block_maps:
        return ()
    real_N = None if mask_BT is None else mask_BT.flatten().nonzero().flatten()
    real = [real_N if mask_BT is not None and y.shape[:-1] == mask_BT.shape else None for _, y in block_maps]
    # One draw serves all blocks: within a block the signs are independent, which is all the estimate needs.
    most = max(_outputs(output_BX, N) for (_, output_BX), N in zip(block_maps, real, strict=True))
    like = block_maps[0][1]
    sign_N = torch.randint(0, 2, (most,), dtype=torch.int8, device=like.device).to(like.dtype) * 2 - 1
    for (input_BX, output_BX), there_N in zip(block_maps, real, strict=True):
        probe_BX = _laid_out_as(output_BX, sign_N, there_N)
        (back_BX,) = torch.autograd.grad(output_BX, input_BX, probe_BX, retain_graph=True, allow_unused=True)
        if back_BX is None:
            found.append(torch.zeros((), device=output_BX.device))
        elif spectral:
            found.append(_spectral_norm(back_BX, probe_BX, there_N))
        else:
            found.append((back_BX.float().square().sum() / _outputs(output_BX, there_N)).sqrt())
    return tuple(found)


def _outputs(output_BX: Tensor, real_N: Tensor | None) -> int:
    """Entries of a map, those of padding left out."""
    return output_BX.numel() if real_N is None else len(real_N) * output_BX.shape[-1]


def _laid_out_as(output_BX: Tensor, sign_N: Tensor, real_N: Tensor | None) -> Tensor:
    """As many signs as a map has entries, in the map's own memory format: nothing is rearranged.

    Args:
        real_N: Of tokens laid one after the other, those that are real; padding gets 0, and takes no signs away, so
            that a text has the same ones however long the others are.
    """
    import torch

    if real_N is not None:
        probe_ND = output_BX.new_zeros(output_BX.shape).flatten(0, -2)
        probe_ND[real_N] = sign_N[: _outputs(output_BX, real_N)].to(output_BX.dtype).view(len(real_N), -1)
        return probe_ND.view(output_BX.shape)
    flat_N = sign_N[: output_BX.numel()].to(output_BX.dtype)
    if output_BX.ndim == 4 and output_BX.is_contiguous(memory_format=torch.channels_last):
        return flat_N.as_strided(output_BX.shape, output_BX.stride())
    return flat_N.view(output_BX.shape)


def _spectral_norm(back_BX: Tensor, probe_BX: Tensor, real_N: Tensor | None) -> Tensor:
    import torch
    from torch.nn.functional import pixel_unshuffle

    if back_BX.ndim == 4:
        stride = back_BX.shape[2] // probe_BX.shape[2]
        back_BX = pixel_unshuffle(back_BX, stride) if stride > 1 else back_BX
        back_BX, probe_BX = back_BX.movedim(1, -1), probe_BX.movedim(1, -1)
    back_NC, probe_NO = back_BX.flatten(0, -2).float(), probe_BX.flatten(0, -2).float()
    # The probe's products with itself average to the identity, so this is the transposed mean Jacobian.
    norm: Tensor = torch.linalg.matrix_norm(back_NC.T @ probe_NO / len(probe_NO if real_N is None else real_N), 2)
    return norm


def label_gradients(model: nn.Module, x_BCHW: Tensor, y: Tensor) -> tuple[Weight, ...]:
    """Gradients of the labels' loss for one batch."""
    import torch

    parameters = matrices(model)
    loss = label_loss(model(x_BCHW), y)
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return tuple(as_weights(model, parameters, found))


def grasp(model: nn.Module, x_BCHW: Tensor, y: Tensor) -> tuple[Weight, ...]:
    """Hessian times gradient of the labels' loss (GraSP, Wang et al. 2020, eq. 8 and algorithm 2)."""
    import torch

    parameters = matrices(model)
    values = list(parameters.values())
    with _exact_attention():
        loss = label_loss(model(x_BCHW), y)
        first = torch.autograd.grad(loss, values, create_graph=True, allow_unused=True)
        product = torch.stack([(g * g.detach()).sum() for g in first if g is not None]).sum()
        second = torch.autograd.grad(product, values, allow_unused=True)
    return tuple(as_weights(model, parameters, second))


def zen(model: nn.Module, x_BCHW: Tensor) -> Zen:
    """Zen-Score's pass: Gaussian weights, Gaussian input, Gaussian change (Lin et al. 2021, algorithm 1).

    Batch norm runs in train mode. Residual links, which the paper takes out, stay.
    """
    import torch
    from torch import nn

    kept = {name: value.clone() for name, value in model.state_dict().items()}
    features: Any = model.forward_features
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    variances: list[Tensor] = []
    differences = []

    def keep_variance(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variances.append(inputs[0].float().var((0, 2, 3), correction=0).mean())

    hooks = [norm.register_forward_pre_hook(keep_variance) for norm in norms]
    try:
        with torch.no_grad():
            _gaussian(model)
            for _ in range(_ZEN_REPEATS):
                noise_BCHW = torch.randn_like(x_BCHW)
                map_BX = features(noise_BCHW)
                # The scales of a single pass are sharp enough: each is a mean over channels, images and positions.
                while hooks:
                    hooks.pop().remove()
                changed_BX = features(noise_BCHW + _ZEN_STEP * torch.randn_like(noise_BCHW))
                difference_BX = first_tensor(map_BX).float() - first_tensor(changed_BX).float()
                differences.append(difference_BX.abs().flatten(1).sum(1).mean())
    finally:
        for hook in hooks:
            hook.remove()
        model.load_state_dict(kept)
    return Zen(torch.stack(differences).mean(), tuple(variances))


def _gaussian(model: nn.Module) -> None:
    """Weights from N(0, 1), no biases, norms that neither scale nor shift."""
    from torch import nn

    for _, layer in weighted(model):
        nn.init.normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def synflow(model: nn.Module, x_BCHW: Tensor) -> tuple[Weight, ...]:
    """|θ| and ∂R/∂|θ| for one input of ones (SynFlow, Tanaka et al. 2020, algorithm 1), norms taken out.

    In float64: without norms the signal of a deep network leaves float32's range.
    """
    import torch
    from torch import nn

    kept = {name: value.clone() for name, value in model.state_dict().items()}
    precision = x_BCHW.dtype
    norms = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
    hooks = [m.register_forward_hook(lambda _m, i, _o: i[0]) for m in model.modules() if isinstance(m, norms)]
    try:
        model.double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.abs_()
        parameters = matrices(model)
        # Two images, of which one counts: batch norm, whose answer is not used, refuses a batch of a single pixel.
        ones_BCHW = x_BCHW.new_ones((2, *x_BCHW.shape[1:]), dtype=torch.float64)
        found = torch.autograd.grad(model(ones_BCHW)[0].sum(), list(parameters.values()), allow_unused=True)
        return tuple(as_weights(model, parameters, found, copy=True))
    finally:
        for hook in hooks:
            hook.remove()
        model.to(precision)
        model.load_state_dict(kept)


def matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weight matrices and kernels by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.ndim >= 2}


def as_weights(
    model: nn.Module, parameters: dict[str, nn.Parameter], found: Any, *, copy: bool = False
) -> Iterator[Weight]:
    """Weights and gradients as evidence; what no gradient reached is left out."""
    head = {id(parameter) for parameter in classifier(model).parameters()}
    for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
        if gradient is not None:
            value = parameter.detach().clone() if copy else parameter.detach()
            yield Weight(name, value, gradient.detach(), id(parameter) in head)


@contextmanager
def _kept_buffers(model: nn.Module) -> Iterator[None]:
    """Running statistics come out as they went in."""
    kept = {name: value.clone() for name, value in model.named_buffers()}
    try:
        yield
    finally:
        for name, value in model.named_buffers():
            value.copy_(kept[name])


@contextmanager
def _exact_attention() -> Iterator[None]:
    """Attention in plain operations: fused kernels have no second derivatives."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield
