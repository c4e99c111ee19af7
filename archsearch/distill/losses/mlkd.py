"""Multi-level logit distillation."""

# B batch, K classes

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.kernels import gram, softened_kl, standardised
from archsearch.precision import exact

if TYPE_CHECKING:
    from torch import Tensor


class MLKD(Settings):
    temperatures: tuple[Annotated[float, Field(ge=0.1, le=100)], ...] = Field(
        (2.0, 3.0, 4.0, 5.0, 6.0), min_length=1, max_length=16, description="Each softens both logits; all are summed."
    )
    standardise: bool = Field(False, description="Standardise logits first (Sun et al. 2024).")


@loss(
    "mlkd",
    source='Jin, Wang and Lin 2023 (CVPR), "Multi-level logit distillation"',
    reads={"logits"},
    settings=MLKD,
    weight=0.9,
    labels=0.1,
)
def mlkd(inputs: LossInputs, settings: MLKD) -> Tensor:
    """Answers of images, likeness of images and likeness of classes, each the teacher's, at several temperatures.

    A batch's softened answers P (B×K) give T²·KL, ‖PPᵀ − the teacher's‖²/B and ‖PᵀP − the teacher's‖²/K. The authors
    show every image in a weak and a strong view; here its one view takes the place of both. Their code also multiplies
    some terms of the weak view by the share of images or classes that are less sure than most, a constant of about a
    half, which is left out.
    """
    assert inputs.teacher is not None
    student_BK, teacher_BK = inputs.student.answers_MK.float(), inputs.teacher.answers_MK.float()
    if settings.standardise:
        student_BK, teacher_BK = standardised(student_BK), standardised(teacher_BK)
    total = student_BK.new_zeros(())
    for temperature in settings.temperatures:
        s_BK, t_BK = (student_BK / temperature).softmax(1), (teacher_BK / temperature).softmax(1)
        total = total + softened_kl(student_BK, teacher_BK, temperature) + _unlike(s_BK, t_BK) + _unlike(s_BK.T, t_BK.T)
    return total


def _unlike(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance between the Gram matrices of rows, over the number of rows."""
    with exact(student.device):
        distance: Tensor = (gram(student) - gram(teacher)).square().sum() / len(student)
    return distance
