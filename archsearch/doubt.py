"""Whether a student is worth its name: held against guessing, a linear model of the pixels, its baseline, its teacher.

A training ends well also where it taught nothing. What is said here is said of the test split, after everything was
decided, and decides nothing.
"""

# N images, C channels, H W space, D features, K classes

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch import domains
from archsearch.data.metrics import scores
from archsearch.data.task import Dataset, Labels, Split, Task
from archsearch.distill.amount import USUAL
from archsearch.evaluate import Evaluation, MultiLabelEvaluation, Share, wilson

# The warning's code.
DEGRADED = "degraded"

Floats = npt.NDArray[np.float64]

# Of what another network knows beyond guessing, the share that has to be kept.
KEPT = 0.6
# Training and test images (count) and features a linear model is made of: a second's work.
_IMAGES, _FEATURES = 4096, 768
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
# Fewer steps than this share of the usual are few; a rate so many times the usual one is high.
_FEW, _HIGH = 0.5, 3.0
_FEW_A_CLASS = 20
# Answers fit another order of the classes where that is right so much more often than their own, in percent.
_ANOTHER_ORDER = 50.0
_Z = 1.96
# Three standard errors, as a teacher has to be above guessing; the interval's end is about two.
_CLEARLY = 1.5


@dataclass(frozen=True)
class Training:
    """How the student was trained.

    Attributes:
        lr: Peak learning rate, after what rolling back made of it; `usual_lr` is what its optimizer and batch take.
        retries: Times it was rolled back after diverging.
        learns_from: Training images (count) its family takes to learn from scratch.
        precision: What was computed in, and `precision_why` why.
        usual_steps: What the domain's networks take where nobody says.
    """

    steps: int
    epochs: int
    batch_size: int
    lr: float
    usual_lr: float
    retries: int
    space: str
    learns_from: int
    precision: str = "fp32"
    precision_why: str = ""
    usual_steps: int = USUAL.steps


@dataclass(frozen=True)
class Judgement:
    """What the student is worth beside others, in percent; `reasons` and `causes` are empty where it is a student.

    Attributes:
        judged_by: accuracy, balanced accuracy where classes are uneven, or mAP.
        guessing: What knowing nothing reaches.
        linear: What a linear model of the pixels reaches.
        kept: Share of the teacher's advantage over guessing that the student has; None where it has none.
        reasons: What it falls short of.
        causes: Why that may be, likeliest first.
    """

    judged_by: str
    score: Share
    guessing: float
    linear: float
    kept: float | None
    reasons: tuple[str, ...]
    causes: tuple[str, ...]

    @property
    def degraded(self) -> bool:
        return bool(self.reasons)

    def summary(self) -> dict[str, Any]:
        """As plain JSON, in percent but for `kept`, which is a share."""
        return {
            "judged_by": self.judged_by,
            "score": self.score.percent,
            "low": self.score.low,
            "high": self.score.high,
            "guessing": self.guessing,
            "linear_model": self.linear,
            "kept": self.kept,
            "reasons": list(self.reasons),
            "causes": list(self.causes),
        }

    def describe(self) -> str:
        """One sentence of what is wrong, and one of why that may be."""
        score = self.score
        causes = "; ".join(f"({number}) {cause}" for number, cause in enumerate(self.causes, 1))
        return (
            f"the student is not a success: {score.percent:.2f} % {self.judged_by} on the test split "
            f"({score.low:.2f}–{score.high:.2f}), {' and '.join(self.reasons)}. Likely causes, in order: {causes}"
        )


Row = Evaluation | MultiLabelEvaluation


def judge(rows: Mapping[str, Row], dataset: Dataset, training: Training) -> Judgement:
    """Hold the student against the others.

    Args:
        rows: What the test split told of `student` and, where they are there, `teacher` and `no_teacher`.
    """
    student, test, task = rows["student"], dataset.test, dataset.task
    score, guess, linear = worth(student, test, task), guessing(test, task), linear_model(dataset)
    reasons = []
    if score.percent - guess <= _CLEARLY * (score.percent - score.low):
        reasons.append(f"not clearly above guessing, which reaches {guess:.2f} %")
    if score.high < linear:
        reasons.append(f"below a linear model of {domains.of(task).coarse_of}, which reaches {linear:.2f} %")
    for role, called in (("teacher", "its teacher"), ("no_teacher", "the same network without a teacher")):
        if role in rows:
            other = worth(rows[role], test, task).percent
            if other > guess and score.high < guess + KEPT * (other - guess):
                reasons.append(f"far below {called}, which reaches {other:.2f} %")
    teacher = worth(rows["teacher"], test, task).percent if "teacher" in rows else guess
    if task.truth == "teacher":
        teacher = 100.0
        if score.high < guess + KEPT * (teacher - guess):
            reasons.append("far from its teacher, whose answers are all that is right here")
    named = task.truth == "labels"
    return Judgement(
        judged_by=domains.judge(task).name,
        score=score,
        guessing=guess,
        linear=linear,
        kept=(score.percent - guess) / (teacher - guess) if teacher > guess else None,
        reasons=tuple(reasons),
        causes=tuple(causes(training, student, len(dataset.train), task.classes, named=named)) if reasons else (),
    )


def worth(row: Row, test: Split, task: Task) -> Share:
    """What a network reaches on the test split, in percent, with the ends of its 95 % interval.

    Of uneven classes it is the mean of the classes' own accuracies: answering the largest one always is no knowledge.
    """
    if isinstance(row, MultiLabelEvaluation):
        return _around(p := row.mean_ap / 100, math.sqrt(p * (1 - p) / max(1, int(test.y_N.sum()))))
    right_K = np.diag(row.confusion_KK)
    images_K = row.confusion_KK.sum(1)
    if not task.uneven:
        return wilson(int(right_K.sum()), int(images_K.sum()))
    right_K, images_K = right_K[images_K > 0], images_K[images_K > 0]
    # Laplace's estimate: of three images all right, a class's accuracy is not known to be 100 %.
    p_K = (right_K + 1) / (images_K + 2)
    error = math.sqrt(float((p_K * (1 - p_K) / images_K).sum())) / len(images_K)
    return _around(float((right_K / images_K).mean()), error)


def guessing(test: Split, task: Task) -> float:
    """What knowing nothing reaches, in percent: the most frequent class, one class of several, or the prevalence."""
    y_N = test.y_N
    if y_N.ndim == 2:
        return 100 * float(y_N[:, y_N.any(axis=0)].mean())
    images_K = np.bincount(y_N)
    return 100 / int((images_K > 0).sum()) if task.uneven else 100 * float(images_K.max() / images_K.sum())


def linear_model(dataset: Dataset) -> float:
    """What ridge regression from coarse features to the labels reaches on the test split, in percent.

    The training images, some thousands at most, are reduced to some hundred numbers; the ridge is chosen on the
    selection split. A network that knows less than this has not been trained.
    """
    train, selection, test = (_some(split) for split in (dataset.train, dataset.selection, dataset.test))
    coarse, metric = partial(domains.of(dataset.task).coarse, features=_FEATURES), domains.judge(dataset.task)
    x_ND = coarse(train)
    mean_D, scale = x_ND.mean(0), float(x_ND.std()) or 1.0
    x_ND, seen_ND, tested_ND = ((each - mean_D) / scale for each in (x_ND, coarse(selection), coarse(test)))
    y_NK = _targets(train.y_N, dataset.task.classes)
    prior_K = y_NK.mean(0)
    values_D, vectors_DD = np.linalg.eigh(x_ND.T @ x_ND / len(x_ND))
    fitted_DK = vectors_DD.T @ (x_ND.T @ (y_NK - prior_K)) / len(x_ND)

    def answers(images_ND: Floats, ridge: float) -> Floats:
        found_NK: Floats = images_ND @ (vectors_DD @ (fitted_DK / (values_D + ridge)[:, None])) + prior_K
        return found_NK

    def score(images_ND: Floats, split: Split, ridge: float) -> float:
        return scores((metric,), answers(images_ND, ridge), split.y_N)[metric.key]

    return score(tested_ND, test, metric.best({ridge: score(seen_ND, selection, ridge) for ridge in _RIDGES}))


def causes(training: Training, student: Row, images: int, classes: int, *, named: bool = True) -> list[str]:
    """Why a student may have learned nothing, likeliest first, as far as what is known of its training tells.

    Args:
        images: In the training split (count).
        named: Whether somebody named the classes, and may have named them otherwise than the teacher does.
    """
    found, an_epoch = [], images // training.batch_size
    if training.steps < _FEW * training.usual_steps:
        found.append(
            f"too few steps: {training.steps:,} (epochs: {training.epochs:,}, each of {an_epoch:,} batches of "
            f"{training.batch_size}), where {training.usual_steps:,} are usual; leave distill.epochs and "
            "distill.batch_size out, or raise the first"
        )
    if training.retries:
        found.append(
            f"too high a rate: the training diverged, was rolled back {training.retries}× and ended at "
            f"{training.lr:.3g}; lower distill.lr"
        )
    elif training.lr > _HIGH * training.usual_lr:
        found.append(
            f"too high a rate: {training.lr:.3g}, where {training.usual_lr:.3g} is usual; leave distill.lr out"
        )
    if images < training.learns_from:
        found.append(
            f"the wrong space: {training.space} takes some {training.learns_from:,} examples to learn from scratch, "
            f"and there are {images:,}; take a convolutional one"
        )
    if images < _FEW_A_CLASS * classes:
        found.append(f"too few examples: {images / classes:.1f} a class")
    if named and isinstance(student, Evaluation) and (other := _in_another_order(student)):
        found.append(
            f"classes in another order: with other names for its answers it is right on {other:.2f} %; compare the "
            "class names of teacher and data"
        )
    return found or ["the network may be too small for the task: raise the budget, or set verify to compare more"]


def _in_another_order(student: Evaluation) -> float | None:
    """Accuracy in percent under the best renaming of the answers, where that is plainly better than their own."""
    from scipy.optimize import linear_sum_assignment

    cells_KK = student.confusion_KK
    renamed = 100 * float(cells_KK[linear_sum_assignment(-cells_KK)].sum() / cells_KK.sum())
    return renamed if renamed > max(_ANOTHER_ORDER, 2 * student.top1_acc.percent) else None


def _around(p: float, error: float) -> Share:
    return Share(100 * p, 100 * max(0.0, p - _Z * error), 100 * min(1.0, p + _Z * error))


def _some(split: Split) -> Split:
    """Evenly spaced images, some thousands at most: splits may be sorted by class."""
    if len(split) <= _IMAGES:
        return split
    return split.take(np.linspace(0, len(split) - 1, _IMAGES).astype(np.int64))


def _targets(y_N: Labels, classes: int) -> Floats:
    return y_N.astype(np.float64) if y_N.ndim == 2 else np.eye(classes)[y_N]
