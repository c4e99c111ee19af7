"""Pixels as networks were trained on them: the one place where a mean is taken off and a deviation divided by."""

# B batch, C channels, H W space

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def normalise(x_BCHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x − mean) / std, per channel."""
    import torch

    layout = next(
        (each for each in (torch.contiguous_format, torch.channels_last) if x_BCHW.is_contiguous(memory_format=each)),
        torch.contiguous_format,
    )
    size = (x_BCHW.shape[1], x_BCHW.shape[2], x_BCHW.shape[3])
    mean_CHW, std_CHW = (_spread(each, size, x_BCHW.dtype, x_BCHW.device, layout) for each in (mean, std))
    return (x_BCHW - mean_CHW).div_(std_CHW)


@lru_cache(maxsize=32)
def _spread(values: tuple[float, ...], size: tuple[int, int, int], dtype: Any, device: Any, layout: Any) -> Tensor:
    """A value a channel as a whole image in the images' own memory layout.

    With three values instead, kernels would go through channels-last images three numbers at a time, and a GPU would be
    waited for while they are copied there.
    """
    import torch

    with torch.inference_mode(False):  # kept for every caller, so it must not become one's inference tensor
        each_1C11 = torch.tensor(values, dtype=dtype, device=device).view(1, -1, 1, 1)
        return each_1C11.expand(1, *size).contiguous(memory_format=layout)
