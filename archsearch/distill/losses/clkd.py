"""Class-aware logit distillation."""

# B batch, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.kernels import gram
from archsearch.precision import exact

if TYPE_CHECKING:
    from torch import Tensor


class CLKD(Settings):
    instances: float = Field(0.5, ge=0, le=1e6, description="Weight of each image's normalised logits.")
    classes: float = Field(1.0, ge=0, le=1e6, description="Weight of each class's normalised logits over the batch.")
    correlation: float = Field(0.4, ge=0, le=1e6, description="Weight of the class correlation matrix.")


@loss(
    "clkd",
    source="Zhang et al. 2022, arXiv 2211.14773, instance, class and class correlation losses",
    reads={"logits"},
    settings=CLKD,
    labels=0.1,
)
def clkd(inputs: LossInputs, settings: CLKD) -> Tensor:
    """Logits as the teacher's in direction, image by image and class by class, and in the covariance of the classes.

    Mean squared differences of the rows, then of the columns, of the logits divided by their lengths; then
    ‖S − T‖²/K², where S and T are the covariances, over the classes, of a class's logits for the batch (B×B). The last
    one sees the logits' size, which the first two do not. Weights 0.5, 0.5·2 and 0.4 beside 0.1 cross-entropy. In a
    batch of one image a class's logit has no direction but its sign, which gives no gradient.
    """
    assert inputs.teacher is not None
    student_BK, teacher_BK = inputs.student.answers_MK.float(), inputs.teacher.answers_MK.float()
    return (
        settings.instances * _turned(student_BK, teacher_BK)
        + settings.classes * _turned(student_BK.T, teacher_BK.T)
        + settings.correlation * _correlated(student_BK, teacher_BK)
    )


def _turned(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of rows of length 1."""
    from torch.nn.functional import mse_loss, normalize

    return mse_loss(normalize(student), normalize(teacher))


def _correlated(student_BK: Tensor, teacher_BK: Tensor) -> Tensor:
    """Squared distance of the classes' covariance matrices over the squared number of classes."""
    classes = student_BK.shape[1]
    centred = [z_BK - z_BK.mean(1, keepdim=True) for z_BK in (student_BK, teacher_BK)]
    with exact(student_BK.device):
        gap_BB = (gram(centred[0]) - gram(centred[1])) / (classes - 1)
    distance: Tensor = gap_BB.square().sum() / classes**2
    return distance
