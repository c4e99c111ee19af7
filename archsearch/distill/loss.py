"""What a distillation loss is: a function of the student's answers, the teacher's, the labels and the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsearch.registry import Registry
from archsearch.request import DistillSpec

if TYPE_CHECKING:
    from torch import Tensor

LossFn = Callable[["Tensor", "Tensor | None", "Tensor", DistillSpec], "Tensor"]


@dataclass(frozen=True)
class Loss:
    """A loss by name.

    Attributes:
        compute: From student logits B×K, teacher logits B×K (None when not needed), labels B and settings to a scalar.
        needs_teacher: Whether the teacher has to look at every batch.
    """

    name: str
    doc: str
    compute: LossFn
    needs_teacher: bool
    source: str


losses: Registry[Loss] = Registry("distillation method", "archsearch.distill.losses")


def loss(name: str, *, needs_teacher: bool, source: str) -> Callable[[LossFn], LossFn]:
    """Register a loss under `name`."""

    def register(compute: LossFn) -> LossFn:
        doc = (compute.__doc__ or "").strip().splitlines()[0]
        losses.add(name, Loss(name, doc, compute, needs_teacher, source))
        return compute

    return register
