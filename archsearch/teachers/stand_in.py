"""A teacher's answers in the place of labels nobody gave: what is right for who measures, and for nobody who learns.

The first answer to an example as it is; what is learned from is always asked anew, of the views a student sees.
"""

# N examples, K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from archsearch import domains
from archsearch.data.answers import Report
from archsearch.data.batches import asked
from archsearch.data.labels import prevalence
from archsearch.data.notes import Note
from archsearch.data.task import Dataset, Labels, Split, Task
from archsearch.domains.domain import Teacher
from archsearch.errors import InvalidRequest, TeacherError
from archsearch.teachers.strange import sure

D = TypeVar("D", bound=Any)  # a `Dataset`
T = TypeVar("T", bound=Any)  # a `Task`
UNSURE = "teacher_unsure"
# Of the way from a guess to certainty, what a teacher that knows its examples goes at least.
_SURE = 0.3
_SPLITS = ("train", "selection", "test")
MANY = "answers with any number of labels an example, and without labels only first answers can be compared"


def check_stand_in(head: str | None, given: Any, *, many: bool = False, field: str = "teacher") -> None:
    """Raise InvalidRequest or TeacherError for what a request says of a teacher and cannot mean without any label.

    Args:
        head: What becomes of the teacher's answers.
        given: Which of them the data's classes are, where the request says so.
        many: Whether an example has any number of labels by what is known of the teacher.
        field: Of the request, that names the teacher.
    """
    if head == "probe":
        detail = "fits a head to labels, and no example has one; take a teacher with a head of its own, or label some"
        raise InvalidRequest(detail, field=f"{field}.head")
    if head == "none":
        raise InvalidRequest(
            "leaves nothing to judge a student by: no example has a label, and without a head there are no answers to "
            "agree with; take keep, with losses of features if you like (distill.losses: {kd: {}, cosine: {}}), or "
            "label some",
            field=f"{field}.head",
        )
    if given is not None:
        detail = "says which answers the data's classes are, and without any label they are the teacher's; leave it out"
        raise InvalidRequest(detail, field=f"{field}.classes")
    if many:
        raise TeacherError(f"it {MANY}; label some examples", field=field)


def stand_in(dataset: D, teacher: Teacher, report: Report | None = None) -> D:
    """The data with the teacher's classes, and its first answers where labels would stand.

    Args:
        report: Told how many examples are done, of how many; it may raise.

    Raises:
        TeacherError: It has no head, or takes other examples.
    """
    teacher.require(dataset.task)
    if teacher.num_classes < 2:
        detail = f"{teacher.name} tells nothing apart, and no example has a label; take a teacher with a head"
        raise TeacherError(detail, field="teacher")
    splits: dict[str, Split] = {name: getattr(dataset, name) for name in _SPLITS}
    total, done, found = sum(map(len, splits.values())), 0, dict[str, Any]()
    for name, split in splits.items():
        found[name] = _answered(split, teacher, report, done, total)
        done += len(split)
    names = next((each for each in teacher.namings if len(each) == teacher.num_classes), ())
    shares = prevalence(found["train"].y_N, teacher.num_classes)
    task = replace(dataset.task, classes=teacher.num_classes, class_names=names, prevalence=shares)
    return replace(dataset, task=task, **found)


def _answered(split: Any, teacher: Teacher, report: Report | None, before: int, total: int) -> Any:
    def told(done: int, _of: int) -> None:
        if report is not None:
            report(before + done, total)

    parts: list[Labels] = []
    for _, logits_BK in asked(teacher.logits, split.examples, len(split), report=told):
        parts.append(logits_BK.float().argmax(1).cpu().numpy().astype(np.int64))
    return replace(split, y_N=np.concatenate(parts))


def known_of(teacher: Teacher, dataset: Dataset, report: Report | None = None) -> tuple[Note, ...]:
    """What is to be said of a teacher that nothing can be held against: how sure it is of the selection split.

    Raises TeacherError where it gives every example the same answer.
    """
    task, what = dataset.task, domains.of(dataset.task).examples
    if max(task.prevalence) == 1:
        raise TeacherError(
            f"{teacher.name} gives all {len(dataset.train):,} training {what} the same answer, {_called(task)}, which "
            "leaves nothing to learn; it may be shown them wrongly, or be of another kind",
            field="teacher",
        )
    guess, certainty = 1 / task.classes, sure(teacher, task, dataset.selection, report)
    if certainty - guess >= _SURE * (1 - guess):
        return ()
    return (
        Note(
            UNSURE,
            f"{teacher.name} is sure by {100 * certainty:.0f} % on average of the selection {what}, where a guess is "
            f"by {100 * guess:.0f} %, and there is no label to hold it against: they may be of other classes or of "
            "another kind than it learned from, or be shown to it in another size or normalisation. Look at some of "
            "its answers",
        ),
    )


def _called(task: Task) -> str:
    only = int(np.argmax(task.prevalence))
    return repr(task.class_names[only]) if task.class_names else str(only)


def asked_of(facts: Mapping[str, Any], task: T, otherwise: int) -> T:
    """The task as far as what is known of its teacher tells, without torch.

    Args:
        otherwise: How many classes are supposed where nothing tells.
    """
    told: Any = task
    names = tuple(facts.get("class_names") or ())
    classes = facts.get("num_classes") or otherwise
    found: T = replace(told, classes=classes, class_names=names if len(names) == classes else ())
    return found
