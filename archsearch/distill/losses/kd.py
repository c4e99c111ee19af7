"""Knowledge distillation by softened logits."""

# B batch, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.kernels import softened_kl

if TYPE_CHECKING:
    from torch import Tensor


class KD(Settings):
    temperature: float = Field(4.0, ge=0.1, le=100, description="Softens both logits.")


@loss("kd", source="Hinton et al. 2015, section 2", reads={"logits"}, settings=KD, weight=0.9, labels=0.1)
def kd(inputs: LossInputs, settings: KD) -> Tensor:
    """T²·KL(teacher ‖ student) of softened logits."""
    assert inputs.teacher is not None
    return softened_kl(inputs.student.answers_MK, inputs.teacher.answers_MK, settings.temperature)
