"""Similarity-preserving distillation."""

# B batch, N tokens, D features

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, Stage, loss
from archsearch.kernels import gram, masked_mean, relation

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
    """Mean squared difference of how alike the networks find the samples of a batch, summed over stages.

    Maps are compared position by position, as published. Texts are as alike as the means of their tokens: the fifth
    word of one says nothing to the fifth of another, and padding counts for nothing.
    """
    import torch

    assert inputs.teacher is not None
    first = 0 if settings.stages == "all" else -1
    stages = zip(inputs.student.stages[first:], inputs.teacher.stages[first:], strict=True)
    return torch.stack([_gap(student, teacher) for student, teacher in stages]).sum()


def _gap(student: Stage, teacher: Stage) -> Tensor:
    gap_BB = relation(_gram(student)) - relation(_gram(teacher))
    return gap_BB.square().mean()


def _gram(stage: Stage) -> Tensor:
    if stage.grid is None:
        return gram(masked_mean(stage.tokens_BND, stage.mask_BN))
    # Maps lie in memory channels last, and a Gram matrix does not mind the order of its features: nothing is copied.
    return gram(stage.map_BCHW.movedim(1, -1))
