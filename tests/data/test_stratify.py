from __future__ import annotations

import numpy as np
import pytest

from archsearch.data import Dataset
from archsearch.data.stratify import hold_out_labels

# N images, K labels


def random_labels(seed: int, images: int = 80, labels: int = 7) -> np.ndarray:
    """Labels from rare to common, each on two images or more and off one or more."""
    rng = np.random.default_rng(seed)
    y_NK = (rng.random((images, labels)) < np.linspace(0.02, 0.9, labels)).astype(np.uint8)
    y_NK[:2], y_NK[2] = 1, 0
    return y_NK


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.99])
def test_it_is_a_partition_in_which_every_label_can_be_learned(seed: int, share: float) -> None:
    y_NK = random_labels(seed)
    kept, held = hold_out_labels(y_NK, share, seed)
    assert sorted([*kept, *held]) == list(range(len(y_NK)))
    assert y_NK[kept].any(axis=0).all()
    assert not y_NK[kept].all(axis=0).any()


def test_every_label_gives_its_share_where_chance_would_not(pairs: Dataset) -> None:
    y_NK = pairs.train.y_N
    _, held = hold_out_labels(y_NK, 0.2, seed=0)
    by_chance = np.random.default_rng(0).permutation(len(y_NK))[: len(held)]
    off_K, off_by_chance_K = (abs(y_NK[rows].sum(0) - 0.2 * y_NK.sum(0)) for rows in (held, by_chance))
    assert len(held) == pytest.approx(0.2 * len(y_NK), rel=0.02)
    # The label dealt out last has few images left to be evened out with.
    assert sorted(off_K)[-2] <= 1
    assert off_by_chance_K.mean() > 3 * off_K.mean()


def test_the_rarest_label_is_dealt_out_first() -> None:
    """Three images have a rare label; all have the common one but one, which would let chance hold out any six."""
    y_NK = np.ones((30, 2), dtype=np.uint8)
    y_NK[3:, 0], y_NK[9, 1] = 0, 0
    for seed in range(5):
        _, held = hold_out_labels(y_NK, 0.2, seed)
        assert (y_NK[held].sum(0).tolist(), len(held)) == ([1, 6], 6)


def test_images_without_labels_are_shared_out_too() -> None:
    y_NK = np.zeros((100, 3), dtype=np.uint8)
    y_NK[:20, 0], y_NK[10:30, 1], y_NK[:5, 2] = 1, 1, 1
    _, held = hold_out_labels(y_NK, 0.2, seed=1)
    assert len(held) == 20
    assert (~y_NK[held].any(axis=1)).sum() == pytest.approx(14, abs=1)


def test_it_depends_on_nothing_but_labels_share_and_seed() -> None:
    y_NK = random_labels(0)
    first, again, other = (hold_out_labels(y_NK, 0.2, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_it_stays_what_it_was_when_it_was_released() -> None:
    y_NK = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 4, dtype=np.uint8)
    assert hold_out_labels(y_NK, 0.3, seed=0)[1].tolist() == [0, 3, 13, 14, 15]
