from __future__ import annotations

import numpy as np
import pytest

from archsearch.data import Dataset
from archsearch.data.splits import complete, hold_out
from archsearch.domains.images.task import ImageSplit
from archsearch.errors import DataError

Y_N = np.repeat(np.arange(4), [5, 20, 100, 2])


def numbered(y_N: np.ndarray) -> ImageSplit:
    """Images that tell their row."""
    x_NHWC = np.zeros((len(y_N), 4, 4, 1), dtype=np.uint8)
    x_NHWC[:, 0, 0, 0] = np.arange(len(y_N))
    return ImageSplit(x_NHWC, y_N)


def test_hold_out_takes_the_share_of_every_class() -> None:
    kept, held = hold_out(Y_N, 0.2, seed=0)
    assert np.bincount(Y_N[held]).tolist() == [1, 4, 20, 1]
    assert np.bincount(Y_N[kept]).tolist() == [4, 16, 80, 1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.01, 0.15, 0.5, 0.99])
def test_hold_out_is_a_partition_that_leaves_every_class_in_train(seed: int, share: float) -> None:
    y_N = np.random.default_rng(seed).integers(0, 7, 60)
    kept, held = hold_out(y_N, share, seed)
    assert sorted([*kept, *held]) == list(range(60))
    assert set(y_N[kept]) == set(y_N)


def test_hold_out_depends_on_nothing_but_labels_share_and_seed() -> None:
    first, again, other = (hold_out(Y_N, 0.2, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_hold_out_stays_what_it_was_when_it_was_released() -> None:
    assert hold_out(np.repeat([0, 1], 6), 0.3, seed=0)[1].tolist() == [2, 5, 7, 9]


def test_missing_splits_are_held_out_of_train_without_overlap() -> None:
    splits = complete(numbered(Y_N), None, None)
    rows = [row for split in splits for row in split.x_NHWC[:, 0, 0, 0].tolist()]
    assert sorted(rows) == list(range(len(Y_N)))
    assert [np.bincount(split.y_N, minlength=4).tolist() for split in splits] == [
        [3, 13, 65, 1], [1, 3, 15, 0], [1, 4, 20, 1],
    ]  # fmt: skip


def test_given_splits_are_left_alone() -> None:
    train, own = numbered(Y_N), numbered(np.arange(4))
    assert complete(train, own, own) == (train, own, own)
    assert complete(train, None, own)[2] is own
    assert len(complete(train, own, None)[0]) == len(Y_N) - 26


def test_a_split_that_would_stay_empty_is_refused(refused) -> None:
    with refused(DataError, "y_train", "three or more"):
        complete(numbered(np.repeat([0, 1], 2)), None, None)


def test_many_labels_are_held_out_in_their_own_shares(pairs: Dataset) -> None:
    train, selection, test = complete(pairs.train, None, None)
    images = [split.x_NHWC.tobytes() for split in (train, selection, test)]
    assert sum(map(len, images)) == pairs.train.x_NHWC.nbytes
    for split, share in ((train, 0.65), (selection, 0.15), (test, 0.20)):
        assert split.y_N.dtype == np.uint8
        assert len(split) == pytest.approx(share * len(pairs.train), rel=0.04)
        off_K = abs(split.y_N.sum(0, dtype=np.int64) - share * pairs.train.y_N.sum(0))
        assert np.median(off_K) < 1


def test_a_split_on_which_no_label_can_be_measured_is_refused(refused) -> None:
    train = numbered(np.tile([[1, 0], [0, 1], [1, 1]], (5, 1)).astype(np.uint8))
    nothing = numbered(np.zeros((4, 2), dtype=np.uint8))
    with refused(DataError, "y_test", "nothing can be measured"):
        complete(train, None, nothing)
    with refused(DataError, "y_selection", "nothing can be measured"):
        complete(train, nothing, train)
