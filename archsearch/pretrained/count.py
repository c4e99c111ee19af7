"""What any network is made of, counted by torch on the meta device: a `Count` where no family has a closed form."""

# C channels, H W space

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archsearch.data.shape import Shape
from archsearch.hardware.meta import measure_model
from archsearch.memory import peak_bytes
from archsearch.spaces.count import KINDS, Count, total

if TYPE_CHECKING:
    from torch import Tensor, nn

_FLOAT_BYTES = 4


def counted(model: nn.Module, shape: Shape) -> Count:
    """The count of a network that lies on the meta device, for one example; parameters, multiply-accumulates, bytes and
    activations are exact.

    What its layers do not account for (products of queries, keys and values) is attention's work.
    """
    model.eval().requires_grad_(False)
    parts: list[Count] = []
    hooks = [
        module.register_forward_hook(lambda layer, _, out: parts.append(_layer(layer, out)))
        for module in model.modules()
        if not any(module.children())
    ]
    try:
        cost = measure_model(model, shape)
    finally:
        for hook in hooks:
            hook.remove()
    x = shape.empty(1)
    peak = x.untyped_storage().nbytes() + peak_bytes(lambda: model(x))
    seen = total(*parts)
    left = cost.macs - sum(seen.work)
    heads = sum(type(module).__name__.endswith("Attention") for module in model.modules())
    return replace(
        seen,
        params=cost.params,
        macs=cost.macs,
        **_stored(model),
        layers=_with(seen.layers, "attention", heads if left else 0),
        work=_with(seen.work, "attention", max(0, left)),
        peak=-(-peak // _FLOAT_BYTES),
    )


def _layer(layer: Any, out: Any) -> Count:
    """What one layer did: its multiply-accumulates by kind, and the activations it wrote."""
    from torch import Tensor, nn

    written = out.numel() if isinstance(out, Tensor) else 0
    if isinstance(layer, nn.Conv2d):
        groups, taps = layer.groups, layer.weight[0, 0].numel()
        kind = "depthwise" if groups == layer.in_channels > 1 else "grouped" if groups > 1 else "conv"
        kind = "pointwise" if kind == "conv" and taps == 1 else kind
    elif isinstance(layer, nn.Linear):
        kind = "linear"
    else:
        return Count(moved=written)
    macs = layer.weight.numel() * (written // layer.weight.shape[0])
    return Count(layers=_with(_NOTHING, kind, 1), work=_with(_NOTHING, kind, macs), moved=written)


def _stored(model: nn.Module) -> dict[str, int]:
    """Of what its state is stored in: entries of matrices, their outputs, and what lies beside the parameters."""
    from torch import nn

    weights = {id(m.weight): m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    beside: list[Tensor] = [value for name, value in model.state_dict().items() if name not in parameters]
    return {
        "matrix": sum(weight.numel() for weight in weights.values()),
        "rows": sum(weight.shape[0] for weight in weights.values()),
        "buffers": sum(value.numel() for value in beside if value.is_floating_point()),
        "counters": sum(value.numel() for value in beside if not value.is_floating_point()),
    }


_NOTHING = (0,) * len(KINDS)


def _with(values: tuple[int, ...], kind: str, more: int) -> tuple[int, ...]:
    return tuple(value + more if name == kind else value for name, value in zip(KINDS, values, strict=True))
