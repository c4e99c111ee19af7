"""How good answers are, and how far their confidence can be trusted: pure functions of logits and labels."""

# N images, K classes, M bins

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.data.metrics import balanced_share, correlation, counted, f1_share
from archsearch.data.task import UNEVEN, Kind

# The normal quantile of a 95 % interval.
_Z = 1.959963984540054
BINS = 15
# Below so many classes the five best answers hold nearly every class.
_TOP5_FROM = 11

Logits = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Share:
    """A share of the images in percent, with the ends of its 95 % interval."""

    percent: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies in (low, high], from 0 to 1.

    Attributes:
        images: How many there are (count).
        confidence: Their mean confidence, in percent; 0 where there are none.
        accuracy: Their accuracy, in percent; 0 where there are none.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class ClassRow:
    """One class of the confusion matrix.

    Attributes:
        images: Images of the class (count).
        accuracy: Share of them answered rightly, in percent; None where there are none.
        confused_with: The wrong answer they get most often; None where there is no wrong one.
        confused: How often that is (count).
    """

    name: str
    images: int
    accuracy: float | None
    confused_with: str | None
    confused: int


@dataclass(frozen=True)
class Evaluation:
    """Answers held against labels, one label an image.

    Attributes:
        top1_acc, top5_acc: Accuracies; the second only where there are more than ten classes.
        balanced_acc: Mean of the classes' accuracies, in percent, over the classes that have images.
        macro_f1: Mean of the classes' F1, in percent.
        mcc: Matthews' correlation of labels and answers, of any number of classes, −1 to 1.
        nll: Mean negative log-likelihood of the labels, in nats.
        ece: Expected calibration error, in percent.
        bins: What `ece` sums over, by confidence.
        per_class: One row a class, in the order of the labels.
        cells_M3: Label, answer and images (count) of every pair that occurs, by label; of a thousand classes a million
            pairs are possible and few occur.
    """

    images: int
    top1_acc: Share
    top5_acc: Share | None
    balanced_acc: float
    macro_f1: float
    mcc: float
    nll: float
    ece: float
    bins: tuple[Bin, ...]
    per_class: tuple[ClassRow, ...]
    cells_M3: npt.NDArray[np.int64]

    @property
    def confusion_KK(self) -> npt.NDArray[np.int64]:
        """Images (count) by label (row) and answer (column)."""
        found_KK = np.zeros((len(self.per_class), len(self.per_class)), np.int64)
        found_KK[self.cells_M3[:, 0], self.cells_M3[:, 1]] = self.cells_M3[:, 2]
        return found_KK

    @property
    def uneven(self) -> bool:
        """Whether the images are spread so unevenly over the classes that accuracy says little of some."""
        counts = [row.images for row in self.per_class if row.images]
        return max(counts) > UNEVEN * min(counts)


@dataclass(frozen=True)
class Likeness:
    """How like a teacher's the answers are.

    Attributes:
        agreement: Share of images with the same first answer, in percent; of a multi-label task the share of labels
            that both find or both do not.
        kl: Mean KL(teacher ‖ student) of the answers to an image, in nats.
    """

    agreement: float
    kl: float


def evaluate(logits_NK: Logits, y_N: npt.NDArray[np.integer[Any]], names: Sequence[str] = ()) -> Evaluation:
    """Everything that answers and labels tell together.

    Args:
        names: Of the classes; their numbers where there are none.
    """
    classes = logits_NK.shape[1]
    log_p_NK = log_softmax(logits_NK)
    answer_N = log_p_NK.argmax(1)
    right_N = answer_N == y_N
    cells_M3 = confusion(answer_N, y_N, classes)
    counts = counted(answer_N, y_N, classes)
    bins = reliability(np.exp(log_p_NK.max(1)), right_N)
    return Evaluation(
        images=len(y_N),
        top1_acc=wilson(int(right_N.sum()), len(y_N)),
        top5_acc=wilson(int(in_top(log_p_NK, y_N, 5).sum()), len(y_N)) if classes >= _TOP5_FROM else None,
        balanced_acc=balanced_share(*counts),
        macro_f1=f1_share(*counts),
        mcc=correlation(*counts),
        nll=float(-log_p_NK[np.arange(len(y_N)), y_N].mean()),
        ece=calibration_error(bins),
        bins=bins,
        per_class=per_class(cells_M3, list(names) or [str(k) for k in range(classes)]),
        cells_M3=cells_M3,
    )


def wilson(right: int, images: int) -> Share:
    """A share with its 95 % score interval (Wilson 1927); it stays within 0–100 % however few images there are."""
    p, z2 = right / images, _Z**2
    centre = (p + z2 / (2 * images)) / (1 + z2 / images)
    half = _Z * math.sqrt(p * (1 - p) / images + z2 / (4 * images**2)) / (1 + z2 / images)
    # At the ends the interval touches the share itself, which rounding must not cross.
    return Share(100 * p, 100 * max(0.0, min(p, centre - half)), 100 * min(1.0, max(p, centre + half)))


def reliability(
    confidence_N: npt.NDArray[np.floating[Any]], right_N: npt.NDArray[np.bool_], bins: int = BINS
) -> tuple[Bin, ...]:
    """Accuracy by confidence, in bins of equal width (Guo et al. 2017, section 2)."""
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)
    counts_M = np.bincount(bin_N, minlength=bins)
    divisor_M = np.maximum(counts_M, 1)
    confidence_M = 100 * np.bincount(bin_N, confidence_N, minlength=bins) / divisor_M
    accuracy_M = 100 * np.bincount(bin_N, right_N, minlength=bins) / divisor_M
    return tuple(
        Bin(i / bins, (i + 1) / bins, int(counts_M[i]), float(confidence_M[i]), float(accuracy_M[i]))
        for i in range(bins)
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error in percent: the bins' |accuracy − confidence|, by images (Guo et al. 2017, eq. 3)."""
    images = sum(bin.images for bin in bins)
    return sum(bin.images / images * abs(bin.accuracy - bin.confidence) for bin in bins)


def confusion(
    answer_N: npt.NDArray[np.integer[Any]], y_N: npt.NDArray[np.integer[Any]], classes: int
) -> npt.NDArray[np.int64]:
    """Label, answer and images (count) of every pair that occurs, by label and then by answer."""
    cells, images = np.unique(y_N.astype(np.int64) * classes + answer_N, return_counts=True)
    return np.stack([cells // classes, cells % classes, images], axis=1).astype(np.int64)


def per_class(cells_M3: npt.NDArray[np.int64], names: Sequence[str]) -> tuple[ClassRow, ...]:
    """A row for each class: how many images, how many right, and the most frequent wrong answer."""
    starts = np.searchsorted(cells_M3[:, 0], np.arange(len(names) + 1))
    rows = []
    for label, name in enumerate(names):
        answer_M, images_M = cells_M3[starts[label] : starts[label + 1], 1:].T
        wrong_M = np.where(answer_M == label, 0, images_M)
        images, confused = int(images_M.sum()), int(wrong_M.max(initial=0))
        rows.append(
            ClassRow(
                name=name,
                images=images,
                accuracy=100 * int((images_M - wrong_M).sum()) / images if images else None,
                confused_with=names[int(answer_M[wrong_M.argmax()])] if confused else None,
                confused=confused,
            )
        )
    return tuple(rows)


def in_top(scores_NK: Logits, y_N: npt.NDArray[np.integer[Any]], k: int) -> npt.NDArray[np.bool_]:
    """Whether each label is among the `k` best answers."""
    best_Nk = np.argpartition(-scores_NK, k - 1, axis=1)[:, :k]
    found: npt.NDArray[np.bool_] = (best_Nk == y_N[:, None]).any(1)
    return found


def likeness(teacher_NK: Logits, student_NK: Logits, kind: Kind = "classification") -> Likeness:
    """How like the teacher's answers the student's are."""
    # Answers may be no numbers: then the divergence is none either, and whoever asked decides what follows.
    with np.errstate(invalid="ignore"):
        if kind == "multilabel":
            same = (teacher_NK > 0) == (student_NK > 0)
            pairs = [(log_sigmoid(sign * teacher_NK), log_sigmoid(sign * student_NK)) for sign in (1, -1)]
            kl_NK = sum(np.exp(t_NK) * (t_NK - s_NK) for t_NK, s_NK in pairs)
        else:
            t_NK, s_NK = log_softmax(teacher_NK), log_softmax(student_NK)
            same = t_NK.argmax(1) == s_NK.argmax(1)
            kl_NK = np.exp(t_NK) * (t_NK - s_NK)
    kl = float(np.sum(kl_NK, axis=1).mean())
    # KL is never negative; rounding may make it so where both agree.
    return Likeness(100 * float(same.mean()), 0.0 if kl < 0 else kl)


def log_softmax(logits_NK: Logits) -> npt.NDArray[np.float64]:
    """Log-probabilities, in double precision."""
    z_NK = logits_NK.astype(np.float64)
    z_NK -= z_NK.max(1, keepdims=True)
    found: npt.NDArray[np.float64] = z_NK - np.log(np.exp(z_NK).sum(1, keepdims=True))
    return found


def log_sigmoid(logits_NK: Logits) -> npt.NDArray[np.float64]:
    """Log-probabilities of labels that are questions of their own, in double precision."""
    found: npt.NDArray[np.float64] = -np.logaddexp(0.0, -logits_NK.astype(np.float64))
    return found
