"""How well answers match labels: accuracy where images have one, mean average precision where they have many.

Where some classes have far fewer images than others, answering with the largest is nearly always right and worth
nothing: there the mean of the classes' own accuracies counts.
"""

# N images, B batch, C channels, H W space, K classes

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from archsearch.data.batches import MOST, asked
from archsearch.data.task import Kind, Labels, Split, Task

if TYPE_CHECKING:
    from torch import Tensor

Key = Literal["acc", "balanced_acc", "map"]
Floats = npt.NDArray[np.float64]
# From images B×C×H×W in 0-1 to logits B×K.
Logits = Callable[["Tensor"], "Tensor"]
# Told after every call how many images are done, of how many.
Report = Callable[[int, int], None]


class Measure(Protocol):
    """From logits of images B×C×H×W in 0-1 to a number in percent, over a split."""

    def __call__(
        self, logits: Logits, split: Split, batch_size: int = MOST, *, report: Report | None = None
    ) -> float: ...


@dataclass(frozen=True)
class Metric:
    """What a task is judged by.

    Attributes:
        key: For names of fields in reports: selection_acc, test_balanced_acc, test_map.
        name: For people.
        measure: In percent; 100 is perfect.
    """

    key: Key
    name: str
    measure: Measure


def metric(task: Task) -> Metric:
    """The one metric a task is judged by."""
    return BALANCED if task.uneven else METRICS[task.kind]


def scores(logits_NK: npt.NDArray[np.floating], y: Labels, task: Task) -> dict[Key, float]:
    """What answers are worth, in percent: first what the task is judged by, then plain accuracy where that is other."""
    if task.kind == "multilabel":
        return {"map": macro(average_precisions(logits_NK, y))}
    answer_N = logits_NK.argmax(1)
    plain: dict[Key, float] = {"acc": 100 * float((answer_N == y).mean())}
    return {"balanced_acc": balanced(answer_N, y), **plain} if task.uneven else plain


def balanced(answer_N: npt.NDArray[np.integer], y_N: Labels) -> float:
    """The mean of the classes' own accuracies, in percent, over the classes that have images."""
    counts_K = np.bincount(y_N)
    right_K = np.bincount(y_N[answer_N == y_N], minlength=len(counts_K))
    there = counts_K > 0
    return 100 * float((right_K[there] / counts_K[there]).mean())


def accuracy(logits: Logits, split: Split, batch_size: int = MOST, *, report: Report | None = None) -> float:
    """Top-1 accuracy on a split, in percent.

    Args:
        logits: In eval mode.
        split: Images and labels; read batch by batch, so it may be memory-mapped.
        batch_size: Images a call at most; fewer where they take much memory or time. It does not change the result.
        report: Told where it stands; it may raise.
    """
    right, y_N = 0, np.asarray(split.y_N)
    for rows, logits_BK in asked(logits, split.examples, len(split), most=batch_size, report=report):
        right += int((logits_BK.argmax(1).cpu().numpy() == y_N[rows]).sum())
    return 100 * right / len(split)


def balanced_accuracy(logits: Logits, split: Split, batch_size: int = MOST, *, report: Report | None = None) -> float:
    """Mean of the classes' accuracies on a split, in percent; arguments as `accuracy` has them."""
    return balanced(answers(logits, split, batch_size, report=report).argmax(1), split.y_N)


def mean_average_precision(
    logits: Logits, split: Split, batch_size: int = MOST, *, report: Report | None = None
) -> float:
    """Mean over the labels of their average precisions on a split, in percent; arguments as `accuracy` has them.

    Labels no image of the split has are left out; a split without any label raises ValueError.
    """
    return macro(average_precisions(answers(logits, split, batch_size, report=report), split.y_N))


def answers(
    logits: Logits, split: Split, batch_size: int = MOST, *, report: Report | None = None
) -> npt.NDArray[np.float32]:
    """The logits N×K of a whole split; arguments as `accuracy` has them."""
    found = asked(logits, split.examples, len(split), most=batch_size, report=report)
    return np.concatenate([logits_BK.float().cpu().numpy() for _, logits_BK in found])


def average_precisions(scores_NK: npt.NDArray[np.floating], y_NK: Labels) -> Floats:
    """Each label's average precision, 0 to 1, K; nan where no image has the label.

    AP = Σ_n (R_n − R_{n−1}) P_n over the distinct scores, without interpolation: images of equal score count together.
    A score that is no number is the lowest.
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


METRICS: dict[Kind, Metric] = {
    "classification": Metric("acc", "accuracy", accuracy),
    "multilabel": Metric("map", "mAP", mean_average_precision),
}
BALANCED = Metric("balanced_acc", "balanced accuracy", balanced_accuracy)
