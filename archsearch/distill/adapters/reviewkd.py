"""What lets deeper stages of the student look back at the teacher's earlier ones."""

# B batch, C channels, H W space, M channels in between

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from archsearch.distill.adapters.layers import ConvNorm
from archsearch.distill.maps import pooled

_WIDEST = 512


class Review(nn.Module):
    """One fusion a stage, from the last to the first, each passing on to the one before it.

    Args:
        student, teacher: Channels of each stage.
    """

    def __init__(self, student: Sequence[int], teacher: Sequence[int]) -> None:
        super().__init__()
        middle, last = min(_WIDEST, student[-1]), len(student) - 1
        self.stages = nn.ModuleList(
            Fusion(ours, middle, theirs, fuses=i < last)
            for i, (ours, theirs) in enumerate(zip(student, teacher, strict=True))
        )

    def forward(self, maps: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The student's maps as the teacher's should be, at the heights and widths asked for."""
        found: list[Tensor] = []
        passed_BMHW: Tensor | None = None
        for stage, map_BCHW, size in reversed(list(zip(self.stages, maps, sizes, strict=True))):
            review_BCHW, passed_BMHW = stage(map_BCHW, passed_BMHW, size)
            found.insert(0, review_BCHW)
        return found


class Fusion(nn.Module):
    """Attention-based fusion of a stage's map with what the deeper stages passed on."""

    def __init__(self, student: int, middle: int, teacher: int, *, fuses: bool) -> None:
        super().__init__()
        self.narrow, self.widen = ConvNorm(student, middle), ConvNorm(middle, teacher, kernel=3)
        self.gates = nn.Conv2d(2 * middle, 2, 1) if fuses else None
        for layer in (self.narrow, self.widen):
            nn.init.kaiming_uniform_(layer.conv.weight, a=1)

    def forward(self, map_BCHW: Tensor, passed_BMHW: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """What is compared with the teacher's map, and what is passed on."""
        own_BMHW = self.narrow(map_BCHW.float())
        if self.gates is not None and passed_BMHW is not None:
            own_BMHW = _fused(self.gates, own_BMHW, passed_BMHW)
        own_BMHW = pooled(own_BMHW, *size)
        return self.widen(own_BMHW), own_BMHW


def _fused(gates: nn.Conv2d, own_BMHW: Tensor, passed_BMHW: Tensor) -> Tensor:
    """Both maps, each weighed at every position by what a 1×1 convolution of the two of them says.

    The convolution is taken apart: what was passed on is convolved before it is enlarged, and nothing is concatenated.
    """
    size = own_BMHW.shape[2:]
    own_weight, passed_weight = gates.weight.chunk(2, 1)
    passed_B2HW = interpolate(conv2d(passed_BMHW, passed_weight), size, mode="nearest")
    gates_B2HW = (conv2d(own_BMHW, own_weight, gates.bias) + passed_B2HW).sigmoid()
    enlarged_BMHW = interpolate(passed_BMHW, size, mode="nearest")
    # Gates that lie alternately in memory take ten times as long to multiply by.
    own_gate_B1HW, passed_gate_B1HW = (gate_B1HW.contiguous() for gate_B1HW in gates_B2HW.chunk(2, 1))
    return own_BMHW * own_gate_B1HW + enlarged_BMHW * passed_gate_B1HW
