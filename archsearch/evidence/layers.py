"""The parts of a network that evidence is about, and the gradient of single samples in them."""

# B batch, C channels, H W space, O outputs, I inputs, N positions

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def classifier(model: nn.Module) -> nn.Module:
    """The network's last linear layer, as timm names it; of a distilled transformer's two the one for the labels."""
    found: Any = model.get_classifier()  # type: ignore[operator]
    head: nn.Module = found[0] if isinstance(found, tuple) else found
    return head


def differentiable(model: nn.Module) -> bool:
    """Whether gradients pass through a network: through none that another runtime computes."""
    return bool(getattr(model, "differentiable", True))


def stage_names(model: nn.Module) -> list[str]:
    """Modules whose outputs are the comparable stages of a network, first to last."""
    info: Any = getattr(model, "feature_info", ())
    # A few timm families name stages that are no modules of theirs.
    modules = {name for name, _ in model.named_modules() if name}
    return [stage["module"] for stage in info if stage["module"] in modules]


def weighted(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    """Every two-dimensional convolution and linear layer, in order of the network's modules."""
    from torch import nn

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module


def blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated units a network is stacked from: residual blocks, cells, transformer layers.

    They are the innermost composite elements of its sequences that hold weights. A sequence of plain layers, as a
    shortcut's convolution and norm, is no stack of blocks; a stage that names its blocks (RegNet's b1, b2, …) is one.
    """
    from torch import nn

    found: list[nn.Module] = []

    def visit(parent: nn.Module) -> bool:
        any_inside = False
        stacked = isinstance(parent, nn.Sequential | nn.ModuleList) or _alike(parent)
        for child in parent.children():
            inside = visit(child)
            composite = any(True for _ in child.children())
            if not inside and stacked and composite and any(parameter.ndim >= 2 for parameter in child.parameters()):
                found.append(child)
                inside = True
            any_inside = any_inside or inside
        return any_inside

    visit(model)
    return found


def _alike(parent: nn.Module) -> bool:
    """Whether a module's children are all of one class of their own."""
    from torch import nn

    kinds = {type(child) for child in parent.children()}
    return len(kinds) == 1 and not kinds & {nn.Sequential, nn.ModuleList}


def first_tensor(value: Any) -> Tensor:
    """A module's map, where it passes on a tuple: a class token or coarser maps come beside it."""
    tensor: Tensor = value[0] if isinstance(value, tuple | list) else value
    return tensor


def sample_gradients(layer: nn.Conv2d | nn.Linear, input_: Tensor, gradient: Tensor) -> Tensor:
    """Each sample's gradient of a layer's weights, B×O×I, from what went in and the gradient at what came out.

    Of a k×k kernel only the centre tap, the others being much alike: one batched product and no unfolding.
    """
    import torch
    from torch import nn

    input_ = input_.to(gradient.dtype)  # under autocast the layer itself saw its input so
    if isinstance(layer, nn.Linear):
        if input_.ndim == 2:
            return gradient.unsqueeze(2) * input_.unsqueeze(1)
        return torch.bmm(gradient.flatten(1, -2).transpose(1, 2), input_.flatten(1, -2))
    seen_BCN, gradient_BON = (_positions_last(map_BCHW) for map_BCHW in _under_centre(layer, input_, gradient))
    if layer.groups == 1:
        return torch.bmm(gradient_BON, seen_BCN.transpose(1, 2))
    groups, batch, positions = layer.groups, len(gradient), seen_BCN.shape[2]
    gradient_BgON = gradient_BON.reshape(batch * groups, -1, positions)
    seen_BgCN = seen_BCN.reshape(batch * groups, -1, positions)
    return torch.bmm(gradient_BgON, seen_BgCN.transpose(1, 2)).view(batch, layer.out_channels, -1)


def _positions_last(map_BCHW: Tensor) -> Tensor:
    """B×C×N without moving anything: a channels-last map is turned, not copied."""
    import torch

    if map_BCHW.is_contiguous(memory_format=torch.channels_last):
        return map_BCHW.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)
    return map_BCHW.flatten(2)


def first_weight_gradient(layer: nn.Conv2d | nn.Linear, input_: Tensor, gradient: Tensor) -> Tensor:
    """Each sample's gradient (B) of a layer's first weight; of a kernel, of its centre."""
    from torch import nn

    if isinstance(layer, nn.Linear):
        product_BX = gradient[..., 0].float() * input_[..., 0].float()
    else:
        seen_BCHW, gradient_BOHW = _under_centre(layer, input_, gradient)
        product_BX = gradient_BOHW[:, 0].float() * seen_BCHW[:, 0].float()
    return product_BX.flatten(1).sum(1) if product_BX.ndim > 1 else product_BX


def _under_centre(conv: nn.Conv2d, input_BCHW: Tensor, gradient_BOHW: Tensor) -> tuple[Tensor, Tensor]:
    """The input pixels under the kernel's centre, and the gradient at the outputs whose centre lies on a pixel."""
    (rows_in, rows_out), (columns_in, columns_out) = (_centre(conv, input_BCHW, gradient_BOHW, i) for i in (0, 1))
    return input_BCHW[:, :, rows_in, columns_in], gradient_BOHW[:, :, rows_out, columns_out]


def _centre(conv: nn.Conv2d, input_BCHW: Tensor, gradient_BOHW: Tensor, axis: int) -> tuple[slice, slice]:
    kernel, dilation, stride = conv.kernel_size[axis], conv.dilation[axis], conv.stride[axis]
    size, outputs = input_BCHW.shape[2 + axis], gradient_BOHW.shape[2 + axis]
    padding = 0 if isinstance(conv.padding, str) else conv.padding[axis]
    missing = (outputs - 1) * stride + dilation * (kernel - 1) + 1 - size
    if missing > 2 * padding:  # torch's and timm's "same" convolutions pad at run time, by half of what is missing
        padding = missing // 2
    first = dilation * (kernel // 2) - padding
    skipped = max(0, -(first // stride))  # outputs whose centre lies in the padding
    start = first + skipped * stride
    count = max(0, min(outputs - skipped, -((start - size) // stride)))
    return slice(start, start + count * stride, stride), slice(skipped, skipped + count)
