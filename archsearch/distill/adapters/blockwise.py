"""What makes a student's map pass for the teacher's own."""

# B batch, C channels, H W space

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from archsearch.distill.adapters.layers import ConvNorm
from archsearch.distill.maps import pooled


class Connectors(nn.Module):
    """One connector a stage: to the teacher's width by a 1×1 convolution, to its resolution by mean or repetition.

    Args:
        widths: Channels of the student's map and of the teacher's, stage by stage.
    """

    def __init__(self, widths: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(ConvNorm(student, teacher) for student, teacher in widths)

    def forward(self, maps: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Maps as wide as the teacher's, of the heights and widths asked for."""
        return [
            _connect(stage, map_BCHW, *size) for stage, map_BCHW, size in zip(self.stages, maps, sizes, strict=True)
        ]


def _connect(stage: nn.Module, map_BCHW: Tensor, height: int, width: int) -> Tensor:
    # Down before the convolution and up after it, where there is least to do.
    small_BCHW = pooled(map_BCHW, min(height, map_BCHW.shape[2]), min(width, map_BCHW.shape[3]))
    connected_BCHW: Tensor = stage(small_BCHW)
    if connected_BCHW.shape[2:] == (height, width):
        return connected_BCHW
    return interpolate(connected_BCHW, (height, width), mode="nearest")
