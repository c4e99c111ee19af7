"""Which method `auto` means, and why."""

from __future__ import annotations

from dataclasses import dataclass

from archsearch.data.task import Task
from archsearch.distill.loss import losses
from archsearch.distill.objective import objective
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec, LossTerm

AUTO = "auto"
RELATIONS = "minilm"
FEATURES = "cosine"


@dataclass(frozen=True)
class Settled:
    """A spec whose method is a registered one or a sum of them, and the reason where it was chosen here."""

    spec: DistillSpec
    why: str | None

    @property
    def name(self) -> str:
        """Of the method, or of the sum."""
        return self.spec.method if self.spec.losses is None else "+".join(self.spec.losses)


def check_method(spec: DistillSpec, task: Task | None = None) -> None:
    """Raise UnknownName or InvalidRequest, naming the field, unless the losses exist, fit the task and take their
    settings; needs no torch."""
    if task is not None or spec.losses is not None or spec.method != AUTO:
        objective(settle(spec, task).spec, task)


def check_answers(spec: DistillSpec, task: Task) -> None:
    """Raise InvalidRequest where nothing would teach a student to answer: no labels, and losses of features alone."""
    found = objective(settle(spec, task).spec, task)
    reads = {read for term in found.terms for read in term.loss.reads}
    if found.labels or reads & {"logits", "head"} or not all(term.loss.needs_teacher for term in found.terms):
        return
    names = ", ".join(term.loss.name for term in found.terms)
    raise InvalidRequest(
        f"{names} of features alone would leave the classifier of a student that begins with noise as it is; add a "
        "loss of answers (distill.losses: {kd: {}, "
        f"{found.terms[0].loss.name}: {{}}}})" + (", or weigh the labels" if task.truth == "labels" else ""),
        field="distill.labels" if spec.labels == 0 else "distill.method" if spec.losses is None else "distill.losses",
    )


def settle(spec: DistillSpec, task: Task | None = None) -> Settled:
    """The spec with `auto` replaced by what suits the task; others are returned as they are.

    Of images everything chosen reads logits alone: every head of every family has them, and their teacher's answers
    are kept. Networks of texts name their attention, which teaches beside them.
    """
    if spec.losses is not None or spec.method != AUTO or task is None:
        return Settled(spec, None)
    if losses.get(RELATIONS).unseen(task) is None and spec.alpha is None and spec.temperature is None:
        return _with_relations(spec, task)
    name, why = _choose(spec, task)
    return Settled(spec.model_copy(update={"method": name}), why)


def _with_relations(spec: DistillSpec, task: Task) -> Settled:
    """Answers, and for the first half of the training how the tokens relate."""
    many = task.kind == "multilabel"
    name = "mld" if many else "kd"
    answers = {} if many else {"weight": 1.0, "temperature": 2.0}
    terms = {name: LossTerm.model_validate(answers), RELATIONS: LossTerm.model_validate({"weight": 1.0, "until": 0.5})}
    labels = (1.0 if many else 0.5) if spec.labels is None and task.truth == "labels" else spec.labels
    beside = ", beside the labels" if task.truth == "labels" else ""
    why = (
        f"{name} teaches the answers{beside}; {RELATIONS}, for the first half, how words relate in the last "
        "layer, which any two encoders can be compared by, whatever their widths, heads and depths"
    )
    return Settled(spec.model_copy(update={"losses": terms, "labels": labels}), why)


def _choose(spec: DistillSpec, task: Task) -> tuple[str, str]:
    if task.kind == "multilabel":
        return "mld", "many labels an image: each label's own probability is what the teacher knows of it"
    if spec.alpha is not None or spec.temperature is not None:
        return "kd", "alpha and temperature are its settings"
    if task.classes == 2:
        return "kd", "with 2 classes the methods that compare classes with each other have nothing to compare"
    # 34.5 % against 31.8 for dkd and 25.2 for kd: docs/distillation.md.
    return "dist", (
        f"{task.classes} classes, and of the methods that read logits alone, which suit any two families and are kept, "
        "it taught most in our comparison"
    )


def features_alone(spec: DistillSpec) -> DistillSpec:
    """The spec for a teacher whose answers are not learned from: `auto` means what its last layer reads.

    Raises InvalidRequest naming a loss that reads the answers, or what makes them.
    """
    if spec.losses is None and spec.method == AUTO:
        return spec.model_copy(update={"method": FEATURES})
    named = (spec.method,) if spec.losses is None else tuple(spec.losses)
    for name in named:
        if losses.get(name, field="distill.method").reads - {"stages", "embedding"}:
            raise InvalidRequest(
                f"{name} reads the teacher's answers, which are none where teacher.head is none; take {FEATURES}, rkd, "
                "sp or one that compares stages, or teacher.head probe",
                field="distill.method" if spec.losses is None else f"distill.losses.{name}",
            )
    return spec
