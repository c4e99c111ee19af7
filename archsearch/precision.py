"""Half precision where the machine computes in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from archsearch.device import kind
from archsearch.errors import InvalidRequest

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]
# What `auto` comes to, the most exact first.
Computed = Literal["fp32", "bf16", "fp16"]


def autocast(precision: Precision, device: str | torch.device = "cpu") -> AbstractContextManager[object]:
    """Half precision where asked for or, with `auto`, bf16 where the device computes in it; elsewhere it is slower."""
    import torch

    where = kind(device)
    found = resolve(precision, where)
    if found == "fp32":
        return nullcontext()
    half = torch.autocast(where, dtype=torch.bfloat16 if found == "bf16" else torch.float16)
    return _sound(half, _meets_padding_alone) if where == "cpu" else half


def training_cast(precision: Precision, device: str) -> AbstractContextManager[object]:
    """The same for a student's step, where a processor computes depthwise convolutions in float32.

    Their gradients take a slow path in bf16: a step of an EfficientNet then takes twice as long.
    """
    import torch

    if kind(device) != "cpu" or resolve(precision, device) == "fp32":
        return autocast(precision, device)
    return _sound(torch.autocast("cpu", dtype=torch.bfloat16), _is_slow_or_spoilt)


def resolve(precision: Precision, device: str) -> Computed:
    """What `auto` means on a device; raises InvalidRequest for fp16 without a GPU."""
    where = kind(device)
    if precision == "auto":
        return "bf16" if _has_bf16(where) else "fp32"
    if precision == "fp16" and where != "cuda":
        raise InvalidRequest("fp16 needs a GPU; take bf16, fp32 or auto here", field="precision")
    return precision


def exact(device: str | torch.device) -> AbstractContextManager[object]:
    """Full precision inside `autocast`: Gram matrices, determinants and eigenvalues do not survive bf16."""
    import torch

    return torch.autocast(kind(device), enabled=False)


@contextmanager
def _sound(half: AbstractContextManager[object], spoilt: Callable[..., bool]) -> Iterator[None]:
    """bf16 on a processor, but for the convolutions of which `spoilt` is true, as of those oneDNN gets wrong in it.

    Where a column of the kernel meets nothing but padding, as in a 3×3 kernel that strides over a map of one pixel, its
    gradient is nothing; oneDNN does not write that down, and whatever lay in the memory is taken for the gradient.
    """
    with half, _exact_convolutions()(spoilt):
        yield


@cache
def _exact_convolutions() -> Any:
    """The mode in which convolutions that bf16 would spoil are computed in float32."""
    import torch
    from torch.overrides import TorchFunctionMode

    class ExactConvolutions(TorchFunctionMode):
        def __init__(self, spoilt: Callable[..., bool]) -> None:
            super().__init__()
            self.spoilt = spoilt

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            in_half = func is torch.conv2d and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
            if not in_half or not self.spoilt(*args, **kwargs):
                return func(*args, **kwargs)
            with exact("cpu"):
                return func(args[0].float(), *args[1:], **kwargs)

    return ExactConvolutions


def _is_slow_or_spoilt(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> bool:
    """Whether a convolution is better computed in float32 in a step on a processor; arguments are torch.conv2d's."""
    depthwise = groups > 1 and weight.shape[1] == 1
    return depthwise or _meets_padding_alone(input, weight, bias, stride, padding, dilation, groups)


def _meets_padding_alone(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> bool:
    """Whether a row or column of a convolution's kernel never meets a pixel; arguments are torch.conv2d's."""
    if isinstance(padding, str):
        return False  # "same" or "valid", where nothing strides
    sides = zip(input.shape[-2:], weight.shape[-2:], *map(_pair, (stride, padding, dilation)), strict=True)
    return any(_idle(*side) for side in sides)


def _idle(size: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    """Whether a position of the kernel falls beside the image wherever the kernel lies, along one side."""
    places = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if not padding:
        return False
    return any(
        all(not 0 <= place * stride + position * dilation - padding < size for place in range(places))
        for position in range(kernel)
    )


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, *rest = value
    return first, rest[0] if rest else first


def _has_bf16(where: str) -> bool:
    import torch

    if where == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
