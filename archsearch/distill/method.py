"""Which method `auto` means, and why."""

from __future__ import annotations

from dataclasses import dataclass

from archsearch.data.task import Task
from archsearch.distill.objective import objective
from archsearch.request import DistillSpec

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


def settle(spec: DistillSpec, task: Task | None = None) -> Settled:
    """The spec with `auto` replaced by what suits the task; others are returned as they are.

    Everything chosen reads logits alone: every head of every family has them, and their teacher's answers are kept.
    """
    if spec.losses is not None or spec.method != AUTO or task is None:
        return Settled(spec, None)
    name, why = _choose(spec, task)
    return Settled(spec.model_copy(update={"method": name}), why)


def _choose(spec: DistillSpec, task: Task) -> tuple[str, str]:
    if task.kind == "multilabel":
        return "mld", "many labels an image: each label's own probability is what the teacher knows of it"
    if spec.alpha is not None or spec.temperature is not None:
        return "kd", "alpha and temperature are its settings"
    if task.classes == 2:
        return "kd", "with 2 classes the methods that compare classes with each other have nothing to compare"
    return "dist", (
        f"of those that read logits alone, and so fit any two families, what taught most in our table; {task.classes} "
        "classes are enough for it"
    )
