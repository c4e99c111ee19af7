"""Knowledge distillation by standardised logits."""

# B batch, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss, more_than_two_classes
from archsearch.kernels import softened_kl, standardised

if TYPE_CHECKING:
    from torch import Tensor


class KDStd(Settings):
    temperature: float = Field(2.0, ge=0.1, le=100, description="Softens both standardised logits.")


@loss(
    "kd_std",
    source="Sun et al. 2024, arXiv 2403.01427",
    reads={"logits"},
    settings=KDStd,
    weight=9.0,
    labels=0.1,
    refuse=more_than_two_classes,
)
def kd_std(inputs: LossInputs, settings: KDStd) -> Tensor:
    """T²·KL(teacher ‖ student) of logits standardised image by image: relations are learned, not their size.

    Two logits become ±0.707 whatever they were; hence the refusal.
    """
    assert inputs.teacher is not None
    student_BK, teacher_BK = standardised(inputs.student.answers_MK), standardised(inputs.teacher.answers_MK)
    return softened_kl(student_BK, teacher_BK, settings.temperature)
