"""No teacher at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.kernels import label_loss

if TYPE_CHECKING:
    from torch import Tensor


@loss(
    "none",
    source="the baseline every distillation has to beat",
    reads=frozenset(),
    labels=0.0,
    tasks={"classification", "multilabel"},
    by_labels=True,
)
def none(inputs: LossInputs, settings: Settings) -> Tensor:
    """The labels alone: cross-entropy, or the binary one for multi-label tasks; the teacher is not asked."""
    return label_loss(inputs.student.answers_MK, inputs.targets_M, inputs.weight_M)
