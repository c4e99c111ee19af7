from __future__ import annotations

import numpy as np
import pytest

from archsearch.domains.images import assemble
from archsearch.domains.images.assemble import fingerprint
from archsearch.domains.images.statistics import channel_statistics
from archsearch.domains.images.task import ImageSplit

X_NHWC = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)


def test_statistics_are_numpys_on_pixels_in_0_to_1() -> None:
    mean, std = channel_statistics(X_NHWC)
    assert mean == pytest.approx((X_NHWC / 255).mean(axis=(0, 1, 2)), abs=1e-12)
    assert std == pytest.approx((X_NHWC / 255).std(axis=(0, 1, 2)), abs=1e-12)


def test_statistics_and_hash_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    split = ImageSplit(X_NHWC, np.arange(50))
    whole = channel_statistics(X_NHWC), fingerprint(split, split, split)
    monkeypatch.setattr("archsearch.domains.images.statistics.CHUNK_BYTES", 200)
    assert (channel_statistics(X_NHWC), fingerprint(split, split, split)) == whole


def test_a_constant_channel_has_a_deviation_of_one_grey_level() -> None:
    assert channel_statistics(np.full((3, 4, 4, 1), 51, dtype=np.uint8)) == ((0.2,), (1 / 255,))


def test_the_hash_sees_every_pixel_label_shape_and_border() -> None:
    split, more = ImageSplit(X_NHWC, np.arange(50)), ImageSplit(X_NHWC[:20], np.arange(20))
    pixel = X_NHWC.copy()
    pixel[7, 1, 2, 0] ^= 1
    label = np.arange(50)
    label[3] = 4
    variants = [
        (split, more, more),
        (ImageSplit(pixel, split.y_N), more, more),
        (ImageSplit(X_NHWC, label), more, more),
        (ImageSplit(X_NHWC.reshape(50, 5, 6, 3), split.y_N), more, more),
        (more, split, more),
    ]
    assert len({fingerprint(*splits) for splits in variants}) == len(variants)


def test_the_hash_does_not_see_memory_order_or_byte_order() -> None:
    split = ImageSplit(X_NHWC, np.arange(50))
    other = ImageSplit(np.asfortranarray(X_NHWC), np.arange(50).astype(">i8"))
    assert fingerprint(split, split, split) == fingerprint(other, other, other)


def test_the_task_tells_classes_and_image_shape() -> None:
    split = ImageSplit(X_NHWC, np.arange(50) % 3)
    task = assemble.assemble(split, split, split, 3, ("a", "b", "c")).task
    assert (task.classes, task.height, task.width, task.in_chans, task.class_names) == (3, 6, 5, 3, ("a", "b", "c"))


def test_many_labels_make_the_task_a_multi_label_one() -> None:
    y_NK = np.stack([np.arange(50) % 2 == 0, np.arange(50) < 40, np.arange(50) < 5], axis=1).astype(np.uint8)
    split = ImageSplit(X_NHWC, y_NK)
    task = assemble.assemble(split, ImageSplit(X_NHWC[:7], 1 - y_NK[:7]), split, 3).task
    assert (task.kind, task.classes) == ("multilabel", 3)
    assert task.prevalence == (0.5, 0.8, 0.1)


def test_one_label_hashes_as_it_did_before_there_were_many() -> None:
    x_NHWC = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 1)
    split = ImageSplit(x_NHWC, np.array([0, 1]))
    assert fingerprint(split, split, split) == "a4d6bf05c9eb3da12215da628490040e3a757db1f562d5c16ac18cf8ad3307be"
    task = assemble.assemble(split, split, split, 2).task
    assert (task.kind, task.prevalence) == ("classification", (0.5, 0.5))


def test_the_hash_sees_every_one_of_many_labels() -> None:
    y_NK = (np.arange(100).reshape(50, 2) % 3 == 0).astype(np.uint8)
    other_NK = y_NK.copy()
    other_NK[3, 1] ^= 1
    variants = [y_NK, other_NK, y_NK[:, ::-1], y_NK[:, 0].astype(np.int64)]
    assert len({fingerprint(*[ImageSplit(X_NHWC, y)] * 3) for y in variants}) == len(variants)
    assert fingerprint(*[ImageSplit(X_NHWC, np.asfortranarray(y_NK))] * 3) == fingerprint(
        *[ImageSplit(X_NHWC, y_NK)] * 3
    )
