"""Some of the examples, balanced over the classes as far as their number allows."""

# N examples, K classes, L labels and having none

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archsearch.data.task import Dataset, Labels


def balanced_rows(y_N: Labels, count: int, seed: int) -> npt.NDArray[np.intp]:
    """Row numbers that take every class in turn, in random order, until there are `count`."""
    order_N = np.random.default_rng(seed).permutation(len(y_N))
    chosen = _one_class_each(y_N[order_N], count) if y_N.ndim == 1 else _rarest_label_next(y_N[order_N], count)
    return np.sort(order_N[chosen])


def _one_class_each(y_N: Labels, count: int) -> npt.NDArray[np.intp]:
    """The first row of every class, then the second, and so on."""
    # A row's turn is how many of its class came before it; sorting by turn takes one of each class, then the next.
    by_class = np.argsort(y_N, kind="stable")
    starts = np.searchsorted(y_N[by_class], y_N[by_class])
    turn_N = np.empty(len(y_N), dtype=np.int64)
    turn_N[by_class] = np.arange(len(y_N)) - starts
    return np.argsort(turn_N, kind="stable")[:count]


def _rarest_label_next(y_NK: Labels, count: int) -> npt.NDArray[np.intp]:
    """Row after row, the first one left of the label that has the fewest so far; having none counts as one label more.

    What is chosen for a smaller count is the beginning of what is chosen for a larger one.
    """
    has_NL = np.column_stack([y_NK != 0, ~y_NK.any(axis=1)])
    waiting_N = np.ones(len(y_NK), dtype=bool)
    seen_L, left_L = np.zeros(has_NL.shape[1], dtype=np.int64), has_NL.sum(axis=0)
    chosen: list[int] = []
    while len(chosen) < min(count, len(y_NK)):
        label = np.where(left_L > 0, seen_L, count + 1).argmin()
        row = int((waiting_N & has_NL[:, label]).argmax())
        chosen.append(row)
        waiting_N[row] = False
        seen_L += has_NL[row]
        left_L -= has_NL[row]
    return np.array(chosen)


def drawn_rows(dataset: Dataset, count: int, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows of the training split, balanced, and where those are too few, of the examples without labels.

    What is drawn for a smaller count is a part of what is drawn for a larger one.
    """
    rows, others = balanced_rows(dataset.train.y_N, count, seed), dataset.unlabelled
    if others is None or len(rows) == count:
        return rows, np.empty(0, np.intp)
    return rows, np.sort(np.random.default_rng(seed).permutation(len(others))[: count - len(rows)])
