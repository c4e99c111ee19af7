from __future__ import annotations

import numpy as np
import pytest

from archsearch.data import assemble
from archsearch.data.assemble import channel_statistics, fingerprint
from archsearch.data.task import Split

X_NHWC = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)


def test_statistics_are_numpys_on_pixels_in_0_to_1() -> None:
    mean, std = channel_statistics(X_NHWC)
    assert mean == pytest.approx((X_NHWC / 255).mean(axis=(0, 1, 2)), abs=1e-12)
    assert std == pytest.approx((X_NHWC / 255).std(axis=(0, 1, 2)), abs=1e-12)


def test_statistics_and_hash_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(X_NHWC, np.arange(50))
    whole = channel_statistics(X_NHWC), fingerprint(split, split, split)
    monkeypatch.setattr("archsearch.data.assemble.CHUNK_BYTES", 200)
    assert (channel_statistics(X_NHWC), fingerprint(split, split, split)) == whole


def test_a_constant_channel_has_a_deviation_of_one_grey_level() -> None:
    assert channel_statistics(np.full((3, 4, 4, 1), 51, dtype=np.uint8)) == ((0.2,), (1 / 255,))


def test_the_hash_sees_every_pixel_label_shape_and_border() -> None:
    split, more = Split(X_NHWC, np.arange(50)), Split(X_NHWC[:20], np.arange(20))
    pixel = X_NHWC.copy()
    pixel[7, 1, 2, 0] ^= 1
    label = np.arange(50)
    label[3] = 4
    variants = [
        (split, more, more),
        (Split(pixel, split.y_N), more, more),
        (Split(X_NHWC, label), more, more),
        (Split(X_NHWC.reshape(50, 5, 6, 3), split.y_N), more, more),
        (more, split, more),
    ]
    assert len({fingerprint(*splits) for splits in variants}) == len(variants)


def test_the_hash_does_not_see_memory_order_or_byte_order() -> None:
    split = Split(X_NHWC, np.arange(50))
    other = Split(np.asfortranarray(X_NHWC), np.arange(50).astype(">i8"))
    assert fingerprint(split, split, split) == fingerprint(other, other, other)


def test_the_task_tells_classes_and_image_shape() -> None:
    split = Split(X_NHWC, np.arange(50) % 3)
    task = assemble.assemble(split, split, split, 3, ("a", "b", "c")).task
    assert (task.classes, task.height, task.width, task.in_chans, task.class_names) == (3, 6, 5, 3, ("a", "b", "c"))
