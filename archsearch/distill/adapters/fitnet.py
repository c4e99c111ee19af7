"""What brings a student's maps to the width of the teacher's."""

# B batch, C channels, H W space

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from archsearch.distill.adapters.layers import ConvNorm


class Regressors(nn.Module):
    """One 1×1 regressor a stage.

    Args:
        widths: Channels of the student's map and of the teacher's, stage by stage.
    """

    def __init__(self, widths: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(ConvNorm(student, teacher) for student, teacher in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [stage(map_BCHW) for stage, map_BCHW in zip(self.stages, maps, strict=True)]
