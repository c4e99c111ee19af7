"""Maps of two networks brought to one resolution."""

# B batch, C channels, H W space

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pooled(map_BCHW: Tensor, height: int, width: int) -> Tensor:
    """A map averaged to a resolution, in float32; one of that resolution is passed on as it is."""
    from torch.nn.functional import adaptive_avg_pool2d

    map_BCHW = map_BCHW.float()
    if tuple(map_BCHW.shape[2:]) == (height, width):
        return map_BCHW
    return adaptive_avg_pool2d(map_BCHW, (height, width))


def same_size(first_BCHW: Tensor, second_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps in float32 at the smaller of their resolutions, the larger one averaged down; their widths stay."""
    height, width = smaller(first_BCHW, second_BCHW)
    return pooled(first_BCHW, height, width), pooled(second_BCHW, height, width)


def smaller(first_BCHW: Tensor, second_BCHW: Tensor) -> tuple[int, int]:
    """The height and width both maps can be averaged down to."""
    return min(first_BCHW.shape[2], second_BCHW.shape[2]), min(first_BCHW.shape[3], second_BCHW.shape[3])
