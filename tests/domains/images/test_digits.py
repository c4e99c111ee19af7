from __future__ import annotations

import numpy as np

from archsearch.domains.images.digits import load_digits


def test_digits_are_1797_images_and_none_is_in_two_splits() -> None:
    digits = load_digits()
    splits = (digits.train, digits.selection, digits.test)
    assert [len(split) for split in splits] == [1169, 269, 359]
    images = np.concatenate([split.x_NHWC for split in splits]).reshape(1797, 64)
    assert len(np.unique(images, axis=0)) == 1797


def test_digits_use_the_whole_range_of_a_byte() -> None:
    digits = load_digits()
    assert digits.train.x_NHWC.dtype == np.uint8
    assert (digits.train.x_NHWC.min(), digits.train.x_NHWC.max()) == (0, 255)
    assert (digits.task.classes, digits.task.in_chans, digits.task.height, digits.task.width) == (10, 1, 8, 8)


def test_digits_are_stratified_and_the_same_every_time() -> None:
    first, again = load_digits(), load_digits()
    # Kept evidence, stored data sets and results are found again by it.
    assert first.sha256 == again.sha256 == "5d16a6dbf0e229691acde2d899a5ef1f75b679aabd180c5673c0f87b1bd72484"
    for split, share in ((first.train, 0.65), (first.selection, 0.15), (first.test, 0.20)):
        counts_K = np.bincount(split.y_N)
        assert np.abs(counts_K - share * 179.7).max() < 5
