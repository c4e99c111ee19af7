"""No teacher at all."""

# B batch, K classes

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.distill.loss import loss
from archsearch.request import DistillSpec

if TYPE_CHECKING:
    from torch import Tensor


@loss("none", needs_teacher=False, source="the baseline every distillation has to beat")
def none(student_BK: Tensor, teacher_BK: Tensor | None, y_B: Tensor, spec: DistillSpec) -> Tensor:
    """Cross-entropy with the labels; the teacher is not asked."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(student_BK.float(), y_B)
