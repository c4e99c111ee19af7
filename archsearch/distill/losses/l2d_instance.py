"""Instance-aware label-wise embedding distillation."""

# B batch, D features, K labels

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.data.task import Task
from archsearch.distill.loss import LossInputs, Settings, loss
from archsearch.distill.losses.l2d_class import both
from archsearch.kernels import structure_gap

if TYPE_CHECKING:
    from torch import Tensor


def _more_than_two_labels(task: Task) -> str | None:
    if task.classes > 2:
        return None
    return "with 2 labels an image has one distance, which is its own mean, and nothing is taught; use mld"


@loss(
    "l2d_instance",
    source="Yang et al. 2023 (L2D), arXiv 2308.06453, instance-aware label-wise embedding distillation",
    reads={"stages", "embedding", "head"},
    grid=True,
    weight=1000.0,
    tasks={"multilabel"},
    refuse=_more_than_two_labels,
    by_labels=True,
)
def l2d_instance(inputs: LossInputs, settings: Settings) -> Tensor:
    """The labels an image has lie as far apart in its label-wise embeddings as they do in the teacher's.

    What is theirs and what is ours: see `l2d_class`. No gradient from images with fewer than three labels: one
    distance is its own mean.
    """
    return instance_gap(*both(inputs), inputs.targets_B)


def instance_gap(student_BKD: Tensor, teacher_BKD: Tensor, y_BK: Tensor) -> Tensor:
    """The loss from both networks' label-wise embeddings."""
    return structure_gap(student_BKD, teacher_BKD, y_BK > 0.5).mean()
