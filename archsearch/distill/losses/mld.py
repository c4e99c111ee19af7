"""Multi-label logits distillation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.kernels import bernoulli_kl

if TYPE_CHECKING:
    from torch import Tensor

# Published as 10 on the mean over a batch of 64 images, beside a cross-entropy summed over those images; the labels'
# part is a mean over the images here.
PUBLISHED_WEIGHT = 10 / 64


@loss(
    "mld",
    source="Yang et al. 2023 (L2D), arXiv 2308.06453, multi-label logits distillation",
    reads={"logits"},
    weight=PUBLISHED_WEIGHT,
    tasks={"multilabel"},
)
def mld(inputs: LossInputs, settings: Settings) -> Tensor:
    """KL(teacher ‖ student) of one yes or no a label, summed over the labels and averaged over the images."""
    assert inputs.teacher is not None
    return bernoulli_kl(inputs.student.answers_MK, inputs.teacher.answers_MK)
