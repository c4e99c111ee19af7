"""Knowledge review."""

# B batch, C channels, H W space

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, Sizes, loss
from archsearch.distill.maps import pooled, smaller

if TYPE_CHECKING:
    from torch import Tensor, nn

_LEVELS = (4, 2, 1)


class ReviewKD(Settings):
    warmup: float = Field(1 / 12, ge=0, le=1, description="Share of the training in which the weight rises from 0.")


def _review(sizes: Sizes, settings: ReviewKD) -> nn.Module:
    from archsearch.distill.adapters.reviewkd import Review

    ours, theirs = ([stage[0] for stage in stages] for stages in (sizes.student_stages, sizes.teacher_stages))
    return Review([*ours, ours[-1]], [*theirs, theirs[-1]])


# Published weights on CIFAR-100 go with the pair, from 0.6 (ResNet56 → 20) to 8 (ResNet32x4 → ShuffleNetV2); 1 is that
# of ImageNet and of ResNet110 → 32, and lies in between on a logarithmic scale.
@loss(
    "reviewkd",
    source="Chen et al. 2021 (2104.09044), its fusion modules and hierarchical context loss as in its code",
    reads={"stages"},
    grid=True,
    settings=ReviewKD,
    adapter=_review,
    tasks={"classification", "multilabel"},
)
def reviewkd(inputs: LossInputs, settings: ReviewKD) -> Tensor:
    """Hierarchical context loss between the teacher's maps and the student's fused with its deeper ones."""
    import torch

    assert inputs.teacher is not None
    assert inputs.adapter is not None
    ours, theirs = _with_pooled(inputs.student.maps), _with_pooled(inputs.teacher.maps)
    sizes = [smaller(student, teacher) for student, teacher in zip(ours, theirs, strict=True)]
    reviews = inputs.adapter(ours, sizes)
    gaps = [review - pooled(teacher, *size) for review, teacher, size in zip(reviews, theirs, sizes, strict=True)]
    strength = min(1.0, inputs.done / settings.warmup) if settings.warmup else 1.0
    return strength * torch.stack([hierarchical(gap) for gap in gaps]).sum()


def hierarchical(gap_BCHW: Tensor) -> Tensor:
    """Mean squared difference at a map's own resolution and, each weighing half as much, pooled to 4×4, 2×2 and 1×1."""
    value, weight, total = gap_BCHW.square().mean(), 1.0, 1.0
    for side in _LEVELS:
        if side >= min(gap_BCHW.shape[2:]):
            continue
        weight /= 2
        total += weight
        value = value + weight * pooled(gap_BCHW, side, side).square().mean()
    return value / total


def _with_pooled(maps: tuple[Tensor, ...]) -> list[Tensor]:
    """The maps, and the last one's mean over its positions as one more, as published."""
    return [*maps, maps[-1].float().mean((2, 3), keepdim=True)]
