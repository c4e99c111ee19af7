"""Whether a teacher fits the data, and knows anything of it."""

# N images, B batch, C channels, H W space, K classes

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from archsearch import domains
from archsearch.data.answers import Report, answers
from archsearch.data.metrics import ACCURACY, MAP, average_precisions, macro, measure_all, scores
from archsearch.data.notes import Note
from archsearch.data.task import Dataset, Task
from archsearch.domains.domain import Teacher
from archsearch.errors import TeacherError
from archsearch.failures import reason_of
from archsearch.teachers.mixed_up import Better, better_order
from archsearch.teachers.size import require_one_fits
from archsearch.teachers.stand_in import known_of
from archsearch.teachers.strange import strange
from archsearch.unit import written

# Orders of the labels in which a multi-label teacher's answers are read besides the right one.
_WRONG_ORDERS = 10


@dataclass(frozen=True)
class Checked:
    """What a look at the selection split told of a teacher.

    Attributes:
        scores: By the key of the metric, each in its unit; what the task is judged by comes first. Empty where no label
            tells.
        notes: What its owner should hear.
    """

    scores: Mapping[str, float]
    notes: tuple[Note, ...] = ()

    @property
    def measured(self) -> float | None:
        """What the task is judged by; None where no label tells."""
        return next(iter(self.scores.values()), None)


@dataclass(frozen=True)
class _Knowledge:
    """What was measured, whether that is more than guessing, both in words, a better order of the outputs if there is
    one, and what else is to be said."""

    scores: Mapping[str, float]
    enough: bool
    told: str
    better: Better | None = None
    notes: tuple[Note, ...] = ()


def check_teacher(teacher: Teacher, dataset: Dataset, *, report: Report | None = None) -> Checked:
    """What the teacher is worth on the selection split, by what the task is judged by; without labels how sure it is.

    Args:
        report: Told how many images are done, of how many; it may raise.

    Raises:
        TeacherError: It does not fit the data, knows nothing of it, or would know it in another order.
        TooMuchMemory: A single image of its size takes more than there is.
    """
    task, look = dataset.task, _look_of(dataset.task)
    check_head(teacher.name, teacher.num_classes, task)
    teacher.require(task)
    require_one_fits(teacher, task)
    domain, told = domains.of(task), domains.of(task).told(task)
    fix = "set input_size" if domain.grid else "make the data with a smaller max_length"
    try:
        found = look(teacher, dataset, report)
    except AssertionError as error:  # timm asserts the input size
        detail = f"{teacher.name} fails on {told}: {error}; {fix}"
        raise TeacherError(detail, field="teacher") from None
    except RuntimeError as error:
        detail = f"{teacher.name} does not take {told} ({reason_of(error)}); {fix}"
        raise TeacherError(detail, field="teacher") from None
    notes = (*found.notes, *_mixed_up(teacher, task, found.better))
    if not found.enough:
        raise TeacherError(
            f"{teacher.name} {found.told}. Check the order of the classes"
            f"{' and the normalisation (mean, std)' * domain.grid}, or train it",
            field="teacher",
        )
    return Checked(found.scores, (*notes, *strange(teacher, dataset, report)))


def _mixed_up(teacher: Teacher, task: Task, better: Better | None) -> tuple[Note, ...]:
    """What is to be said of a better order; raises TeacherError where the teacher's own hides what it knows."""
    if better is None:
        return ()
    detail = (
        f"{teacher.name} is right on {better.own:.1f} % of the selection {domains.of(task).examples} in its own order "
        f"of the classes and on {better.other:.1f} % in {better.describe(task.class_names)}"
    )
    if better.hides(100 / task.classes) and not teacher.classes_given:
        raise TeacherError(f"{detail}, or to 'as_is' if its own is right", field="teacher.classes")
    return (Note("classes_mixed_up", detail),)


def check_head(name: str, num_classes: int, task: Task) -> None:
    """Raise TeacherError where it tells another number of classes apart than the data has."""
    if num_classes != task.classes:
        what = "has no head" if num_classes < 2 else f"tells {num_classes} classes apart, the data has {task.classes}"
        raise TeacherError(
            f"{name} {what}; use a teacher trained on these, say which of its classes they are (teacher.classes), "
            "or have a head fitted to them (teacher.head probe)",
            field="teacher",
        )


def _look_of(task: Task) -> Callable[[Teacher, Dataset, Report | None], _Knowledge]:
    """How its knowledge is looked for: by the statistics of right and wrong where the task is judged by a share, and
    not at all where it is itself what is right."""
    if task.truth == "teacher":
        return _own_answers
    if not domains.judge(task).is_share:
        return _any_knowledge
    return _label_knowledge if task.kind == "multilabel" else _class_knowledge


def _own_answers(teacher: Teacher, dataset: Dataset, report: Report | None) -> _Knowledge:
    """Nothing but how sure it is: there is no label to hold it against."""
    return _Knowledge({}, enough=True, told="", notes=known_of(teacher, dataset, report))


def _any_knowledge(teacher: Teacher, dataset: Dataset, report: Report | None) -> _Knowledge:
    """What any metric tells: the value, and whether it is better than what guessing reaches."""
    judge = domains.judge(dataset.task)
    found = measure_all(domains.metrics(dataset.task), teacher.logits, dataset.selection, report=report)
    reached, chance = found[judge.key], judge.chance(dataset.task)
    told = f"reaches a {judge.name} of {written(reached, judge.unit)} on the selection split; guessing reaches "
    return _Knowledge(found, judge.is_better(reached, than=chance), told + written(chance, judge.unit))


def _class_knowledge(teacher: Teacher, dataset: Dataset, report: Report | None) -> _Knowledge:
    """Accuracy, balanced over uneven classes, and what it has to beat.

    A teacher has to beat the best guess by more than luck: three standard errors above the largest class, or above an
    equal share where the classes are uneven. Half of the way from there to perfection is knowledge in any case, however
    few the images.
    """
    import numpy as np

    split, task, judge = dataset.selection, dataset.task, domains.judge(dataset.task)
    logits_NK = answers({"teacher": teacher.logits}, split, report=report)["teacher"]
    found = scores(domains.metrics(task), logits_NK, split.y_N)
    counts_K = np.bincount(split.y_N)
    if task.uneven:
        there_K = counts_K[counts_K > 0]
        guess = 1 / len(there_K)
        error = math.sqrt(guess * (1 - guess) * float((1 / there_K).sum())) / len(there_K)
    else:
        guess = counts_K.max() / len(split)
        error = math.sqrt(guess * (1 - guess) / len(split))
    bound = 100 * min(guess + 3 * error, (guess + 1) / 2)
    what = "is right on" if judge is ACCURACY else f"has a {judge.name} of"
    seen = f"{len(split)} selection {domains.of(task).examples}"
    told = f"{what} {found[judge.key]:.1f} % of the {seen}; guessing reaches {bound:.1f} %"
    better = better_order(logits_NK.argmax(1), split.y_N, task.class_names, task.classes)
    return _Knowledge(found, judge.is_better(found[judge.key], than=bound), told, better)


def _label_knowledge(teacher: Teacher, dataset: Dataset, report: Report | None) -> _Knowledge:
    """Mean average precision and what it has to beat.

    The best guess is the labels' mean prevalence, or what the same answers reach read in wrong orders of the labels. A
    network that knows nothing still sees brightness and strokes, and ranks by those better or worse than chance: orders
    of labels tell its luck, where orders of images would not (after Ojala and Garriga 2010, test 1). The guess has to
    be beaten by three standard deviations of those, or three standard errors of a share of as many answers where there
    are few. Half of the way from chance to perfection is knowledge in any case, whatever the labels have in common. Of
    untrained networks 0 in 40 pass with 31 labels, 1 in 32 with ten, 1 in 4 with two (measured).
    """
    import numpy as np

    split = dataset.selection
    y_NK = split.y_N
    scores_NK = answers({"teacher": teacher.logits}, split, report=report)["teacher"]
    measured = macro(average_precisions(scores_NK, y_NK))
    chance = 100 * float(y_NK[:, y_NK.any(axis=0)].mean())
    turns = np.unique(np.linspace(1, y_NK.shape[1] - 1, _WRONG_ORDERS).astype(int))
    others = [macro(average_precisions(np.roll(scores_NK, turn, axis=1), y_NK)) for turn in turns]
    guess = max(chance, float(np.mean(others)))
    luck = max(float(np.std(others)), math.sqrt(guess * (100 - guess) / y_NK.size))
    bound = min(guess + 3 * luck, (chance + 100) / 2)
    told = (
        f"ranks the {len(split)} selection {domains.of(dataset.task).examples} with a mAP of {measured:.1f} %; "
        f"guessing reaches {chance:.1f} %, the labels' mean prevalence, and as much as {bound:.1f} % by luck"
    )
    return _Knowledge({MAP.key: measured}, measured > bound, told)
