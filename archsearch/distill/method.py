"""Which method `auto` means, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsearch.data.task import Task
from archsearch.distill.objective import objective
from archsearch.request import DistillSpec

if TYPE_CHECKING:
    from torch import nn

AUTO = "auto"


@dataclass(frozen=True)
class Settled:
    """A spec whose method is a registered one, and the reason where it was chosen here."""

    spec: DistillSpec
    why: str | None


def check_method(spec: DistillSpec, task: Task | None = None) -> None:
    """Raise UnknownName or InvalidRequest, naming the field, unless the losses exist, fit the task and take their
    settings; needs no torch."""
    if task is not None or spec.losses is not None or spec.method != AUTO:
        objective(settle(spec, task).spec, task)


def settle(
    spec: DistillSpec, task: Task | None = None, student: nn.Module | None = None, teacher: nn.Module | None = None
) -> Settled:
    """The spec with `auto` replaced by what suits the task and the networks; others are returned as they are.

    Everything chosen reads logits alone, which every pair of families has and the view cache keeps.
    """
    if spec.losses is not None or spec.method != AUTO or task is None:
        return Settled(spec, None)
    name, why = _choose(task)
    return Settled(spec.model_copy(update={"method": name}), why)


def _choose(task: Task) -> tuple[str, str]:
    if task.kind == "multilabel":
        return "mld", "many labels an image: each label's own probability is what the teacher knows of it"
    if task.classes == 2:
        return "kd", "with 2 classes the methods that compare classes with each other have nothing to compare"
    return "dist", f"{task.classes} classes: relations between and within classes are kept"
