"""What a training minimises: the labels' loss and one loss, or a weighted sum of losses, that read the teacher."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from archsearch.data.task import Task
from archsearch.distill.loss import Loss, LossInputs, Outputs, Read, Settings, Sizes, losses
from archsearch.errors import InvalidRequest
from archsearch.kernels import answered, label_loss
from archsearch.request import DistillSpec, first_error

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Term:
    """One loss with its settings and weight."""

    loss: Loss
    settings: Settings
    weight: float

    def value(self, inputs: LossInputs) -> Tensor:
        """The loss of a batch, without its weight."""
        if self.loss.needs_teacher or inputs.known_M is None:
            return self.loss.compute(inputs, self.settings)
        if not inputs.known_M.any():
            return 0 * inputs.student.answers_MK.float().sum()
        share = inputs.known_M.float().mean()
        return share * self.loss.compute(_labelled(inputs), self.settings)


# What the labels' part is called among the terms of a sum.
LABELS = "labels"


@dataclass(frozen=True)
class Value:
    """What a batch costs, and what that is made of.

    Attributes:
        total: The loss, a float32 scalar; gradients flow from it.
        terms: What adds up to it by name, as weighted: the labels' part, where it counts, and every loss's.
    """

    total: Tensor
    terms: Mapping[str, Tensor]

    def numbers(self) -> Tensor:
        """The total and then every term, as one tensor without gradients: looked at in one go."""
        import torch

        return torch.stack([self.total.detach(), *(term.detach() for term in self.terms.values())])


@dataclass(frozen=True)
class Objective:
    """The labels' weight and the terms beside it.

    Attributes:
        weight_K: What an image of each class counts for in the labels' loss; None where all count alike.
    """

    terms: Sequence[Term]
    labels: float
    weight_K: tuple[float, ...] | None = None

    @property
    def reads(self) -> frozenset[Read]:
        return frozenset[Read]().union(*(term.loss.reads for term in self.terms))

    def layers(self, student: int, teacher: int) -> tuple[frozenset[int], frozenset[int]]:
        """Numbers of the student's and of the teacher's layers whose attention is looked at, of so many each."""
        pairs = [
            pair
            for term in self.terms
            if term.loss.layers is not None
            for pair in term.loss.layers(student, teacher, term.settings)
        ]
        return frozenset(ours for ours, _ in pairs), frozenset(theirs for _, theirs in pairs)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the terms that add up to the loss, in the order of `Value.terms`."""
        labels = (LABELS,) if self.labels else ()
        return labels + tuple(term.loss.name for term in self.terms)

    def value(self, inputs: LossInputs, adapters: Mapping[str, nn.Module]) -> Value:
        """The loss of a batch with its terms.

        Where decisions have no label, the labels' part is of those that have one, over the number of all; so is that of
        losses that ask no teacher. The others take what the teacher answers for the label. Of views of two examples it
        is a mean over both labels, by their shares.
        """
        if inputs.known_M is not None:
            inputs = _answered(inputs)
        by_label = [self._weighed(one) for one in _by_label(inputs)]
        inputs = self._weighed(_leading(inputs))
        answers_MK = inputs.student.answers_MK
        if not len(answers_MK):  # nothing of these examples counts, and a mean over nothing is no number
            return Value(answers_MK.sum(), dict.fromkeys(self.names, answers_MK.detach().sum()))
        values = [self.labels * _sum([_of_labels(one) for one in by_label])] if self.labels else []
        for term in self.terms:
            if term.loss.needs_teacher:
                found = term.value(replace(inputs, adapter=adapters.get(term.loss.name)))
            else:
                found = _sum([term.value(one) for one in by_label])
            values.append(term.weight * found)
        return Value(_sum(values), dict(zip(self.names, values, strict=True)))

    def _weighed(self, inputs: LossInputs) -> LossInputs:
        """With what each decision counts for because of its class, beside what it counts for already."""
        if self.weight_K is None:
            return inputs
        weight_M = _weights(self.weight_K, inputs.targets_M.device)[inputs.targets_M]
        return replace(inputs, weight_M=weight_M if inputs.weight_M is None else weight_M * inputs.weight_M)

    def adapters(self, sizes: Sizes) -> dict[str, nn.Module]:
        """The losses' own trained modules, by loss."""
        return {
            term.loss.name: term.loss.adapter(sizes, term.settings)
            for term in self.terms
            if term.loss.adapter is not None
        }

    def describe(self) -> dict[str, Any]:
        """For results, cards and manifests: every weight and setting that was used."""
        terms = {term.loss.name: {"weight": term.weight, **term.settings.model_dump()} for term in self.terms}
        weighed = {} if self.weight_K is None else {"class_weights": [round(w, 4) for w in self.weight_K]}
        return {"labels": self.labels, "losses": terms, **weighed}


def objective(spec: DistillSpec, task: Task | None = None) -> Objective:
    """The objective a request means (its method must not be `auto` any more).

    Args:
        task: Where it is known, losses that make no sense for it are refused.

    Raises UnknownName or InvalidRequest naming the field.
    """
    if task is not None and task.truth == "teacher":
        return _without_labels(spec, task)
    weight_K = None if task is None else class_weights(spec, task)
    return _asked(spec, task, weight_K)


def _without_labels(spec: DistillSpec, task: Task) -> Objective:
    """What is minimised where no example has a label: what the teacher says alone.

    Raises InvalidRequest naming what asks for labels.
    """
    check_unlabelled(spec)
    found = _asked(spec.model_copy(update={"labels": 0.0}), task, None)
    for term in found.terms:
        if not term.loss.needs_teacher:
            raise InvalidRequest(
                f"{term.loss.name} learns from labels, and no example has one; take one that reads the teacher",
                field="distill.method" if spec.losses is None else f"distill.losses.{term.loss.name}",
            )
    return found


def check_unlabelled(spec: DistillSpec) -> None:
    """Raise InvalidRequest for what a request says of labels where no example has one."""
    asks: dict[str, tuple[bool, str]] = {
        "labels": (bool(spec.labels), "weighs the labels' loss"),
        "alpha": (spec.alpha not in (None, 1), "leaves the rest to the labels"),
        "labelled_share": (spec.labelled_share is not None, "is a share of labelled examples"),
        "class_weights": (spec.class_weights == "balanced", "weighs the labels' classes"),
        "baseline": (spec.baseline, "learns from labels alone"),
    }
    for name, (asked, what) in asks.items():
        if asked:
            raise InvalidRequest(f"{what}, and no example has one; leave it out", field=f"distill.{name}")


def _asked(spec: DistillSpec, task: Task | None, weight_K: tuple[float, ...] | None) -> Objective:
    """The objective as the request says it."""
    if spec.losses is None:
        term = _term(spec.method, _shorthands(spec), None, task, "distill.method")
        labels, weight = term.loss.labels, term.weight
        if spec.alpha is not None and spec.method != "none":
            labels, weight = 1 - spec.alpha, spec.alpha
        return Objective((replace(term, weight=weight),), labels if spec.labels is None else spec.labels, weight_K)
    terms = [
        _term(name, given.settings, given.weight, task, f"distill.losses.{name}") for name, given in spec.losses.items()
    ]
    return Objective(tuple(terms), 1.0 if spec.labels is None else spec.labels, weight_K)


def class_weights(spec: DistillSpec, task: Task) -> tuple[float, ...] | None:
    """What an image of each class counts for in the labels' loss, one on average; None where all count alike.

    `balanced` is the inverse of the class's share (King and Zeng 2001, eq. 8), under which every class counts alike.
    `auto` takes it where the classes are uneven.
    """
    if task.kind != "classification" or not task.prevalence or spec.class_weights == "none":
        return None
    if spec.class_weights == "auto" and not task.uneven:
        return None
    return tuple(1 / (task.classes * share) for share in task.prevalence)


def _answered(inputs: LossInputs) -> LossInputs:
    """With what the teacher answers where there is no label; as it is where no teacher is asked."""
    import torch

    if inputs.teacher is None:
        return inputs
    y, answers_MK, known_M = inputs.targets_M, inputs.teacher.answers_MK, inputs.known_M
    assert known_M is not None
    rows = known_M if y.ndim == 1 else known_M[:, None]
    return replace(inputs, targets_M=torch.where(rows, y, answered(answers_MK, y)))


def _by_label(inputs: LossInputs) -> tuple[LossInputs, ...]:
    """The batch with its own labels and, of views of two examples, with the others', each counting by its share."""
    if inputs.other_M is None or inputs.share_M is None:
        return (inputs,)
    alone = replace(inputs, other_M=None, share_M=None)
    others_M = inputs.other_M.clamp(min=0)  # of examples without labels neither counts
    return replace(alone, weight_M=inputs.share_M), replace(alone, targets_M=others_M, weight_M=1 - inputs.share_M)


def _leading(inputs: LossInputs) -> LossInputs:
    """With the label of which most is seen."""
    import torch

    if inputs.other_M is None or inputs.share_M is None:
        return inputs
    own_M, y = inputs.share_M >= 0.5, inputs.targets_M
    if inputs.known_M is not None:
        own_M = own_M | ~inputs.known_M
    targets_M = torch.where(own_M if y.ndim == 1 else own_M[:, None], y, inputs.other_M)
    return replace(inputs, targets_M=targets_M, other_M=None, share_M=None)


def _of_labels(inputs: LossInputs) -> Tensor:
    """The labels' part."""
    return label_loss(inputs.student.answers_MK, inputs.targets_M, _counted(inputs))


def _sum(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _counted(inputs: LossInputs) -> Tensor | None:
    """What each decision counts for in the labels' part: nothing where it has no label of its own."""
    if inputs.known_M is None:
        return inputs.weight_M
    known_M = inputs.known_M.float()
    return known_M if inputs.weight_M is None else known_M * inputs.weight_M


def _labelled(inputs: LossInputs) -> LossInputs:
    """Those decisions that have a label of their own, for a loss that looks at nothing but the student's answers."""
    rows = inputs.known_M
    weight_M = None if inputs.weight_M is None else inputs.weight_M[rows]
    student = Outputs(inputs.student.answers_MK[rows])
    return LossInputs(student, None, inputs.targets_M[rows], inputs.row_B[rows], inputs.done, weight_M=weight_M)


@lru_cache(maxsize=16)
def _weights(weight_K: tuple[float, ...], device: Any) -> Tensor:
    import torch

    with torch.inference_mode(False):
        return torch.tensor(weight_K, device=device)


def _shorthands(spec: DistillSpec) -> dict[str, Any]:
    """Settings of a method that the request has fields of its own for."""
    if spec.method == "none":
        return {}  # there is no teacher to weigh or to soften
    if spec.alpha is not None and spec.method != "kd":
        raise InvalidRequest(
            f"alpha is kd's; weigh {spec.method} by losses: {{{spec.method}: {{weight: …}}}} and labels",
            field="distill.alpha",
        )
    if spec.temperature is None:
        return {}
    if "temperature" not in losses.get(spec.method, field="distill.method").settings.model_fields:
        raise InvalidRequest(f"{spec.method} has no temperature; leave it out", field="distill.temperature")
    return {"temperature": spec.temperature}


def _term(name: str, settings: Mapping[str, Any], weight: float | None, task: Task | None, field: str) -> Term:
    loss = losses.get(name, field=field)
    if task is not None:
        _check_task(loss, task, field)
    try:
        checked = loss.settings.model_validate(dict(settings))
    except ValidationError as error:
        where, detail = first_error(error)
        known = ", ".join(loss.settings.model_fields) or "none but its weight"
        raise InvalidRequest(f"{detail} (settings of {name}: {known})", field=f"{field}.{where}") from None
    return Term(loss, checked, loss.weight if weight is None else weight)


def _check_task(loss: Loss, task: Task, field: str) -> None:
    if task.kind not in loss.tasks:
        able = ", ".join(_able(task))
        raise InvalidRequest(f"{loss.name} is not defined for {task.kind} tasks; take one of {able}", field=field)
    if reason := loss.unseen(task):
        raise InvalidRequest(f"{loss.name} {reason}; take one of {', '.join(_able(task))}", field=field)
    if reason := loss.refuse(task):
        raise InvalidRequest(f"{loss.name}: {reason}", field=field)


def _able(task: Task) -> list[str]:
    """Losses that are defined for the task."""
    return [loss.name for loss in losses if task.kind in loss.tasks and loss.unseen(task) is None]
