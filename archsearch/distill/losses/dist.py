"""Distillation from a stronger teacher: correlation instead of equality."""

# B batch, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from archsearch.distill.loss import LossInputs, Settings, loss, more_than_two_classes

if TYPE_CHECKING:
    from torch import Tensor


class DIST(Settings):
    temperature: float = Field(4.0, ge=0.1, le=100, description="Softens both logits; 1 on ImageNet.")
    beta: float = Field(2.0, ge=0, le=1e3, description="Weight of the relations between classes.")
    gamma: float = Field(2.0, ge=0, le=1e3, description="Weight of the relations between images.")


@loss(
    "dist",
    source="Huang et al. 2022, arXiv 2205.10536, section 3",
    reads={"logits"},
    settings=DIST,
    refuse=more_than_two_classes,
)
def dist(inputs: LossInputs, settings: DIST) -> Tensor:
    """τ²·(β·(1 − ρ of each image's classes) + γ·(1 − ρ of each class's images)), ρ Pearson's, of softened answers.

    τ² is not in the paper but in the authors' training on CIFAR. With two classes the first ρ is ±1; hence the refusal.
    A batch of one image has no relations between images: its second part is the constant γ·τ².
    """
    assert inputs.teacher is not None
    student_BK = (inputs.student.answers_MK.float() / settings.temperature).softmax(1)
    teacher_BK = (inputs.teacher.answers_MK.float() / settings.temperature).softmax(1)
    classes = 1 - _pearson(student_BK, teacher_BK).mean()
    images = 1 - _pearson(student_BK.T, teacher_BK.T).mean()
    return settings.temperature**2 * (settings.beta * classes + settings.gamma * images)


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of each row of a with the same row of b; 0 where one is constant."""
    from torch.nn.functional import cosine_similarity

    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    rho: Tensor = cosine_similarity(a, b, eps=1e-8)
    return rho
