"""Knowledge distillation by softened logits."""

# B batch, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.distill.loss import loss
from archsearch.kernels import softened_kl
from archsearch.request import DistillSpec

if TYPE_CHECKING:
    from torch import Tensor


@loss("kd", needs_teacher=True, source="Hinton et al. 2015, section 2")
def kd(student_BK: Tensor, teacher_BK: Tensor | None, y_B: Tensor, spec: DistillSpec) -> Tensor:
    """α·T²·KL(teacher ‖ student) of softened logits, and (1 − α) cross-entropy with the labels."""
    from torch.nn.functional import cross_entropy

    assert teacher_BK is not None
    labels = cross_entropy(student_BK.float(), y_B)
    return spec.alpha * softened_kl(student_BK, teacher_BK, spec.temperature) + (1 - spec.alpha) * labels
