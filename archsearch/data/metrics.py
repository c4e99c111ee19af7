"""What answers are worth: meters that read rows of decisions as they come, with a unit and a direction.

A row is one decision between K options: an example, or one of several an example has. Where some classes have far
fewer examples than others, answering with the largest is nearly always right and worth nothing: there the mean of the
classes' own accuracies counts.

Which metrics a task has is its domain's to say: `archsearch.domains.metrics(task)`, the one it is judged by first.
"""

# N examples, B batch, M decisions, K classes or labels

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from archsearch.data.answers import Network, Report
from archsearch.data.batches import MOST, asked
from archsearch.data.decisions import decided
from archsearch.data.task import Labels, Split, Task
from archsearch.unit import Direction, Unit

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
T = TypeVar("T")


class Meter(Protocol):
    """Reads answers with what would have been right, any number of rows at a time, in any order."""

    def update(self, answers_MK: npt.NDArray[Any] | Tensor, targets_M: npt.NDArray[Any] | Tensor) -> None:
        """Take these rows in. Targets are numbers of classes, or M×K of 0 and 1."""

    def value(self) -> float:
        """What all rows so far are worth, in the metric's unit; raises ValueError where there were none."""


@dataclass(frozen=True)
class Metric:
    """A way to say what answers are worth.

    Attributes:
        key: For names of fields: selection_acc, test_balanced_acc, test_map.
        name: For people.
        unit: Of its values.
        better: Which way; a metric may be a loss.
        chance: What a guess that knows nothing but the prevalence of a task's classes reaches.
        meter: A fresh one.
    """

    key: str
    name: str
    unit: Unit
    better: Direction
    chance: Callable[[Task], float]
    meter: Callable[[], Meter]

    @property
    def is_share(self) -> bool:
        """Whether values are shares, which intervals of shares and the luck of guessing are known of.

        What holds a network against guessing by statistics of right and wrong asks here first.
        """
        return self.unit == "%"

    @property
    def worst(self) -> float:
        """A value that any other is better than."""
        return -math.inf if self.better == "higher" else math.inf

    def merit(self, value: float) -> float:
        """A number that is larger the better the value is; what is no number is worth least."""
        return -math.inf if math.isnan(value) else value if self.better == "higher" else -value

    def is_better(self, value: float, than: float) -> bool:
        """Whether one value is truly better than the other."""
        return self.merit(value) > self.merit(than)

    def gain(self, value: float, over: float) -> float:
        """By how much a value is better than another, in the metric's unit; below nothing where it is worse."""
        return value - over if self.better == "higher" else over - value

    def best(self, values: Mapping[T, float]) -> T:
        """Whose value is best; of equals the first."""
        return max(values, key=lambda name: self.merit(values[name]))

    def describe(self) -> dict[str, str]:
        """As plain JSON, for whoever reads the values later."""
        return {"key": self.key, "name": self.name, "unit": self.unit, "better": self.better}


def measure(
    metric: Metric, logits: Network, split: Split, batch_size: int = MOST, *, report: Report | None = None
) -> float:
    """What a network's answers to a split are worth; see `measure_all`."""
    return measure_all((metric,), logits, split, batch_size, report=report)[metric.key]


def measure_all(
    metrics: Iterable[Metric], logits: Network, split: Split, batch_size: int = MOST, *, report: Report | None = None
) -> dict[str, float]:
    """What a network's answers to a split are worth by several metrics, by key, from one pass.

    Args:
        logits: In eval mode.
        split: Read batch by batch, so it may be memory-mapped.
        batch_size: Examples a call at most; fewer where they take much memory or time. It does not change the result.
        report: Told where it stands; it may raise.
    """
    meters, y_N = {metric.key: metric.meter() for metric in metrics}, split.y_N
    for rows, answers in asked(logits, split.examples, len(split), most=batch_size, report=report):
        answers_MK, targets_M = decided(answers, y_N[rows])
        for meter in meters.values():
            meter.update(answers_MK, targets_M)
    return {key: meter.value() for key, meter in meters.items()}


def accuracy(logits: Network, split: Split, batch_size: int = MOST, *, report: Report | None = None) -> float:
    """Top-1 accuracy on a split, in percent; see `measure_all`."""
    return measure(ACCURACY, logits, split, batch_size, report=report)


def scores(metrics: Iterable[Metric], answers_NK: npt.NDArray[Any], y: Labels) -> dict[str, float]:
    """What answers at hand are worth by several metrics, by key."""
    found = {}
    for metric in metrics:
        meter = metric.meter()
        meter.update(answers_NK, y)
        found[metric.key] = meter.value()
    return found


def of_labels(task: Task) -> tuple[Metric, ...]:
    """What answers to examples with one label, or with many, are judged by, and beside it what people expect to see;
    without any label by agreement with the teacher."""
    if task.truth == "teacher":
        return (AGREEMENT,)
    if task.kind == "multilabel":
        return (MAP,)
    return (BALANCED, ACCURACY) if task.uneven else (ACCURACY,)


@dataclass
class _Counted:
    """Counts of each class, which are all that some metrics need, however many rows there are.

    Attributes:
        worth: From answers that were right, labels and answers of each class (K, counts) to a value.
    """

    worth: Callable[[Ints, Ints, Ints], float]
    counts_3K: Ints | None = None

    def update(self, answers_MK: npt.NDArray[Any] | Tensor, targets_M: npt.NDArray[Any] | Tensor) -> None:
        # Where the answers are, so that a GPU hands over one number a row.
        best_M, y_M = _array(answers_MK.argmax(1)), _array(targets_M)
        found_3K = np.stack(counted(best_M, y_M, answers_MK.shape[1]))
        self.counts_3K = found_3K if self.counts_3K is None else self.counts_3K + found_3K

    def value(self) -> float:
        if self.counts_3K is None or not self.counts_3K[1].any():
            raise ValueError("no answers were read")
        return self.worth(*self.counts_3K)


def right_share(right_K: Ints, labels_K: Ints, answers_K: Ints) -> float:
    """Top-1 accuracy, in percent."""
    return 100 * (int(right_K.sum()) / int(labels_K.sum()))


def balanced_share(right_K: Ints, labels_K: Ints, answers_K: Ints) -> float:
    """The mean of the classes' own accuracies, in percent, over the classes that have examples."""
    there_K = labels_K > 0
    return 100 * float((right_K[there_K] / labels_K[there_K]).mean())


def f1_share(right_K: Ints, labels_K: Ints, answers_K: Ints) -> float:
    """The mean of the classes' F1, in percent, over the classes that are some example's label or answer.

    F1 = 2 · right / (labels + answers), which is the harmonic mean of precision and recall.
    """
    sum_K = labels_K + answers_K
    return 100 * float((2 * right_K[sum_K > 0] / sum_K[sum_K > 0]).mean())


def correlation(right_K: Ints, labels_K: Ints, answers_K: Ints) -> float:
    """The correlation of labels and answers, −1 to 1: R_K (Gorodkin 2004, eq. 8), of two classes Matthews' coefficient.

    Nothing where all answers, or all labels, are one class: then neither tells of the other.
    """
    # Python's own numbers: the products of many rows are beyond 64 bits.
    labels, answers, count = labels_K.tolist(), answers_K.tolist(), int(labels_K.sum())
    together = int(right_K.sum()) * count - sum(t * p for t, p in zip(labels, answers, strict=True))
    alone = [count**2 - sum(n * n for n in each) for each in (labels, answers)]
    return together / math.sqrt(alone[0] * alone[1]) if all(alone) else 0.0


@dataclass
class _Kept:
    """Mean average precision; a ranking is of all rows, so their scores are kept."""

    answers: list[npt.NDArray[Any]]
    targets: list[npt.NDArray[Any]]

    def update(self, answers_MK: npt.NDArray[Any] | Tensor, targets_M: npt.NDArray[Any] | Tensor) -> None:
        self.answers.append(_floats(answers_MK))
        self.targets.append(_array(targets_M))

    def value(self) -> float:
        if not self.answers:
            raise ValueError("no answers were read")
        return macro(average_precisions(np.concatenate(self.answers), np.concatenate(self.targets)))


@dataclass
class _Nats:
    """Mean negative log-likelihood of the labels: a sum and a count."""

    total: float = 0.0
    count: int = 0

    def update(self, answers_MK: npt.NDArray[Any] | Tensor, targets_M: npt.NDArray[Any] | Tensor) -> None:
        z_MK, y_M = _floats(answers_MK).astype(np.float64), _array(targets_M)
        z_MK = z_MK - z_MK.max(1, keepdims=True)
        self.total += float((np.log(np.exp(z_MK).sum(1)) - z_MK[np.arange(len(y_M)), y_M]).sum())
        self.count += len(y_M)

    def value(self) -> float:
        if not self.count:
            raise ValueError("no answers were read")
        return self.total / self.count


def average_precisions(scores_NK: npt.NDArray[np.floating], y_NK: Labels) -> Floats:
    """Each label's average precision, 0 to 1, K; nan where no example has the label.

    AP = Σ_n (R_n − R_{n−1}) P_n over the distinct scores, without interpolation: examples of equal score count
    together. A score that is no number is the lowest.
    """
    from sklearn.metrics import average_precision_score

    scores_NK = np.nan_to_num(scores_NK, nan=float(np.finfo(scores_NK.dtype).min))
    found_K = np.full(y_NK.shape[1], np.nan)
    for label in np.flatnonzero(y_NK.any(axis=0)):
        found_K[label] = average_precision_score(y_NK[:, label], scores_NK[:, label])
    return found_K


def macro(precisions_K: Floats) -> float:
    """The mean of those labels that have an average precision, in percent."""
    known = precisions_K[~np.isnan(precisions_K)]
    if not known.size:
        raise ValueError("no image has any label")
    return 100 * float(known.mean())


def counted(answers_N: npt.NDArray[np.integer], y_N: npt.NDArray[np.integer], classes: int) -> tuple[Ints, Ints, Ints]:
    """Answers that are right, labels and answers of each class (K, counts), as the shares above take them."""
    each = (y_N[answers_N == y_N], y_N, answers_N)
    right_K, labels_K, answers_K = (np.bincount(rows, minlength=classes) for rows in each)
    return right_K, labels_K, answers_K


def _array(rows: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    return rows if isinstance(rows, np.ndarray) else rows.detach().cpu().numpy()


def _floats(rows: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    """The same in numbers that numpy knows, which has no half precision of the brain's."""
    return rows if isinstance(rows, np.ndarray) else rows.detach().float().cpu().numpy()


def _largest(task: Task) -> float:
    """Answering with the largest class always."""
    return 100.0 * max(task.prevalence, default=1 / task.classes)


def _even(task: Task) -> float:
    """Any guess: of the classes' own accuracies one gains what another loses."""
    return 100.0 / task.classes


def _prevalence(task: Task) -> float:
    """A ranking that knows nothing finds as many positives among its first examples as among all."""
    return 100.0 * sum(task.prevalence) / len(task.prevalence)


def _entropy(task: Task) -> float:
    """Giving every class the probability it has."""
    return -sum(p * math.log(p) for p in task.prevalence if p > 0) if task.prevalence else math.log(task.classes)


ACCURACY = Metric("acc", "accuracy", "%", "higher", _largest, partial(_Counted, right_share))
BALANCED = Metric("balanced_acc", "balanced accuracy", "%", "higher", _even, partial(_Counted, balanced_share))
# The same count, of which the teacher's first answers are what is right: never to be told as an accuracy.
AGREEMENT = Metric("agreement", "agreement with the teacher", "%", "higher", _largest, partial(_Counted, right_share))
# Guessed as often as they come, every class has its prevalence as precision and as recall.
MACRO_F1 = Metric("macro_f1", "macro-F1", "%", "higher", _even, partial(_Counted, f1_share))
MCC = Metric("mcc", "Matthews correlation", "", "higher", lambda task: 0.0, partial(_Counted, correlation))
MAP = Metric("map", "mAP", "%", "higher", _prevalence, lambda: _Kept([], []))
NLL = Metric("nll", "negative log-likelihood", "nats", "lower", _entropy, _Nats)

# By key, for whoever reads what was written when only keys were.
METRICS: Mapping[str, Metric] = {
    metric.key: metric for metric in (ACCURACY, BALANCED, AGREEMENT, MACRO_F1, MCC, MAP, NLL)
}
