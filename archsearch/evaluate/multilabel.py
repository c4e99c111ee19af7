"""How good answers are where an image has any number of labels: every label is a question of its own."""

# N images, K labels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.data.metrics import average_precisions, macro
from archsearch.evaluate.metrics import Bin, Logits, calibration_error, log_sigmoid, reliability


@dataclass(frozen=True)
class LabelRow:
    """One label.

    Attributes:
        images: Images that have it (count).
        average_precision: In percent; None where no image has it.
    """

    name: str
    images: int
    average_precision: float | None


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """Answers held against labels, any number of them an image.

    Attributes:
        mean_ap: Mean of the labels' average precisions, in percent.
        nll: Mean negative log-likelihood of an image's labels, in nats: the binary ones summed.
        ece: Expected calibration error of all answers to all labels, in percent.
        bins: What `ece` sums over, by the probability of having the label; `accuracy` is the share that has it.
        per_label: One row a label.
    """

    images: int
    mean_ap: float
    nll: float
    ece: float
    bins: tuple[Bin, ...]
    per_label: tuple[LabelRow, ...]


def evaluate_labels(
    logits_NK: Logits, y_NK: npt.NDArray[np.integer[Any]], names: Sequence[str] = ()
) -> MultiLabelEvaluation:
    """Everything that answers and labels tell together.

    Args:
        names: Of the labels; their numbers where there are none.
    """
    names = list(names) or [str(k) for k in range(logits_NK.shape[1])]
    precision_K = average_precisions(logits_NK, y_NK.astype(np.uint8))
    bins = reliability(np.exp(log_sigmoid(logits_NK)).ravel(), (y_NK == 1).ravel())
    rows = zip(names, y_NK.sum(0), precision_K, strict=True)
    return MultiLabelEvaluation(
        images=len(y_NK),
        mean_ap=macro(precision_K),
        nll=float(-log_sigmoid(np.where(y_NK == 1, logits_NK, -logits_NK)).sum(1).mean()),
        ece=calibration_error(bins),
        bins=bins,
        per_label=tuple(
            LabelRow(name, int(images), None if np.isnan(precision) else 100 * float(precision))
            for name, images, precision in rows
        ),
    )
