"""Stratified hold-outs: what a user did not split is split here, the same way every time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archsearch.data.stratify import hold_out_labels
from archsearch.data.task import Labels, Split
from archsearch.errors import DataError

# N images, M held-out images, R remaining images

TEST_SHARE = 0.20
SELECTION_SHARE = 0.15
SEED = 20_240


def complete(train: Split, selection: Split | None, test: Split | None) -> tuple[Split, Split, Split]:
    """Train, selection and test, the missing ones held out of train; raises DataError if a split stays empty."""
    # Both shares are of the images given, so the second is taken of a smaller rest.
    share = SELECTION_SHARE if test is not None else SELECTION_SHARE / (1 - TEST_SHARE)
    if test is None:
        train, test = _hold_out("test", train, TEST_SHARE)
    if selection is None:
        train, selection = _hold_out("selection", train, share)
    for name, split in (("selection", selection), ("test", test)):
        if split.y_N.ndim == 2 and not split.y_N.any():
            raise DataError(
                f"no image of the {name} split has any label, so nothing can be measured on it; "
                f"give a {name} split of images with labels",
                field=f"y_{name}",
            )
    return train, selection, test


def hold_out(y_N: Labels, share: float, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row numbers, ascending, of (kept, held-out) images: about `share` of every class, at least one image.

    A class never gives its last image, so a class of one gives none.
    """
    # RandomState's stream is frozen by NumPy's policy; a Generator's may change, and with it everybody's test split.
    rng = np.random.RandomState(seed)
    held_N = np.zeros(len(y_N), dtype=bool)
    for label in np.unique(y_N):
        rows = np.flatnonzero(y_N == label)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        held_N[rng.permutation(rows)[:count]] = True
    return np.flatnonzero(~held_N), np.flatnonzero(held_N)


def _hold_out(name: str, train: Split, share: float) -> tuple[Split, Split]:
    rows_R, rows_M = (hold_out if train.y_N.ndim == 1 else hold_out_labels)(train.y_N, share, SEED)
    if not len(rows_M):
        raise DataError(
            f"no class has a training image to spare for the {name} split; "
            f"give a {name} split of your own, or three or more training images a class",
            field="y_train",
        )
    return train.take(rows_R), train.take(rows_M)
