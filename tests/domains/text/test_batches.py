from __future__ import annotations

import numpy as np
import pytest

from archsearch.domains.text.batches import POOL, epoch_batches, padding_share


def lengths(count: int, seed: int = 0) -> np.ndarray:
    """About those of SST-2: many short ones, a few long."""
    return np.random.default_rng(seed).gamma(1.5, 8, count).astype(np.int64) + 3


@pytest.mark.parametrize("count", [0, 1, 7, 8, 31, 500, 8 * POOL, 8 * POOL + 1, 3000])
@pytest.mark.parametrize("size", [1, 8, 13])
@pytest.mark.parametrize("epoch", [0, 5])
def test_an_epoch_has_whole_batches_and_no_text_twice(count: int, size: int, epoch: int) -> None:
    batches = epoch_batches(lengths(count), size, 3, epoch)
    rows = [row for batch in batches for row in batch.tolist()]
    assert [len(batch) for batch in batches] == [size] * (count // size)
    assert len(set(rows)) == len(rows) == count // size * size
    assert set(rows) <= set(range(count))


def test_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    def rows(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in epoch_batches(lengths(200), 8, seed, epoch)]

    first = rows(1, 2)
    rows(9, 9)
    assert rows(1, 2) == first
    assert len({str(rows(seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}) == 4


def test_an_epoch_stays_what_it_was_when_it_was_released() -> None:
    batches = epoch_batches(np.array([9, 2, 5, 2, 7, 1, 3]), 2, 0, 0)
    assert [batch.tolist() for batch in batches] == [[4, 0], [6, 2], [5, 3]]


def test_texts_left_over_are_others_in_other_epochs() -> None:
    left = set()
    for epoch in range(20):
        left |= set(range(10)) - {row for batch in epoch_batches(lengths(10), 8, 0, epoch) for row in batch.tolist()}
    assert len(left) > 5


def test_little_of_a_batch_is_padding() -> None:
    lengths_N = lengths(8000)
    at_random = np.split(np.random.default_rng(0).permutation(8000), 250)
    assert padding_share(lengths_N, at_random) > 0.5
    assert padding_share(lengths_N, epoch_batches(lengths_N, 32, 0, 0)) < 0.10


def test_short_texts_do_not_come_before_long_ones() -> None:
    lengths_N = lengths(8000)
    means = [lengths_N[rows].mean() for rows in epoch_batches(lengths_N, 32, 0, 0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2


def test_texts_of_one_length_are_not_padded() -> None:
    lengths_N = np.full(100, 7)
    assert padding_share(lengths_N, epoch_batches(lengths_N, 8, 0, 0)) == padding_share(lengths_N, []) == 0.0
