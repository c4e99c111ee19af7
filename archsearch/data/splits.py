"""Stratified hold-outs: what a user did not split is split here, the same way every time."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from archsearch.data.stratify import hold_out_labels
from archsearch.data.task import Labelled, Labels
from archsearch.errors import DataError

# N examples, M held out, R remaining

TEST_SHARE = 0.20
SELECTION_SHARE = 0.15
SEED = 20_240

Rows = npt.NDArray[np.intp]
S = TypeVar("S", bound=Labelled)


def complete(
    train: S,
    selection: S | None,
    test: S | None,
    group_N: Rows | None = None,
    *,
    noun: str = "image",
    field: str = "y_train",
) -> tuple[S, S, S]:
    """Train, selection and test, the missing ones held out of train; raises DataError if a split stays empty.

    Args:
        group_N: Groups of training examples, by number, that are not to be torn apart: copies of one another.
        noun: What an example is called in messages.
        field: What holds the labels, for messages.
    """
    # both shares are of the examples given, so the second is taken of a smaller rest.
    share = SELECTION_SHARE if test is not None else SELECTION_SHARE / (1 - TEST_SHARE)
    if test is None:
        train, test, group_N = _hold_out("test", train, TEST_SHARE, group_N, noun, field)
    if selection is None:
        train, selection, group_N = _hold_out("selection", train, share, group_N, noun, field)
    for name, split in (("selection", selection), ("test", test)):
        if split.y_N.ndim == 2 and not split.y_N.any():
            raise DataError(
                f"no {noun} of the {name} split has any label, so nothing can be measured on it; "
                f"give a {name} split of {noun}s with labels",
                field=field.replace("y_train", f"y_{name}"),
            )
    return train, selection, test


def hold_out(y_N: Labels, share: float, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row numbers, ascending, of (kept, held-out) examples: about `share` of every class, at least one of each.

    A class never gives its last example, so a class of one gives none.
    """
    # RandomState's stream is frozen by NumPy's policy; a Generator's may change, and with it everybody's test split.
    rng = np.random.RandomState(seed)
    held_N = np.zeros(len(y_N), dtype=bool)
    for label in np.unique(y_N):
        rows = np.flatnonzero(y_N == label)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        held_N[rng.permutation(rows)[:count]] = True
    return np.flatnonzero(~held_N), np.flatnonzero(held_N)


def _hold_out(
    name: str, train: S, share: float, group_N: Rows | None, noun: str, field: str
) -> tuple[S, S, Rows | None]:
    """What is kept, what is held out, and the groups of what is kept."""
    rows_R, rows_M = _divided(train.y_N, share, group_N)
    if not len(rows_M):
        raise DataError(
            f"no class has a training {noun} to spare for the {name} split; "
            f"give a {name} split of your own, or three or more training {noun}s a class",
            field=field,
        )
    return train.take(rows_R), train.take(rows_M), None if group_N is None else group_N[rows_R]


def _divided(y_N: Labels, share: float, group_N: Rows | None) -> tuple[Rows, Rows]:
    """Rows kept and held out, groups whole unless a class would be left without any or nothing be held out."""
    divide = hold_out if y_N.ndim == 1 else hold_out_labels
    if group_N is not None:
        # One example stands for each group, and takes the others along.
        _, first, unit_N = np.unique(group_N, return_index=True, return_inverse=True)
        held_N = np.isin(unit_N, divide(y_N[first], share, SEED)[1])
        if held_N.any() and (y_N.ndim == 2 or len(np.unique(y_N[~held_N])) == len(np.unique(y_N))):
            return np.flatnonzero(~held_N), np.flatnonzero(held_N)
    return divide(y_N, share, SEED)
