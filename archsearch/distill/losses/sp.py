"""Similarity-preserving distillation."""

# B batch, C channels, H W space

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.kernels import gram, relation

if TYPE_CHECKING:
    from torch import Tensor


class SP(Settings):
    stages: Literal["all", "last"] = Field(
        "all", description="Which stages are compared; `last` is what the published tables were made with."
    )


@loss(
    "sp",
    source="Tung and Mori 2019 (1907.09682), eq. 4; weight of its CIFAR experiments",
    reads={"stages"},
    settings=SP,
    weight=3000.0,
    tasks={"classification", "multilabel"},
)
def sp(inputs: LossInputs, settings: SP) -> Tensor:
    """Mean squared difference of how alike the networks find the samples of a batch, summed over stages."""
    import torch

    assert inputs.teacher is not None
    first = 0 if settings.stages == "all" else -1
    stages = zip(inputs.student.maps[first:], inputs.teacher.maps[first:], strict=True)
    return torch.stack([_gap(student, teacher) for student, teacher in stages]).sum()


def _gap(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    # Maps lie in memory channels last, and a Gram matrix does not mind the order of its features: nothing is copied.
    student_BB, teacher_BB = (relation(gram(map_BCHW.movedim(1, -1))) for map_BCHW in (student_BCHW, teacher_BCHW))
    gap_BB = student_BB - teacher_BB
    return gap_BB.square().mean()
