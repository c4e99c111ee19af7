"""What brings a student's maps to the teacher's channels, of which only where and not how strongly they fire counts."""

# B batch, C channels, H W space

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Channels(nn.Module):
    """One 1×1 convolution a stage; no normalisation follows, for the loss standardises what it gives.

    Args:
        widths: Channels of the student's map and of the teacher's, stage by stage.
    """

    def __init__(self, widths: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(student, teacher, 1, bias=False) for student, teacher in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [stage(map_BCHW) for stage, map_BCHW in zip(self.stages, maps, strict=True)]
