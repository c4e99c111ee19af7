from __future__ import annotations

from pathlib import Path

import numpy as np

from archsearch.data import load_digits, open_dataset, save_dataset


def test_tensors_are_writable_copies_even_of_a_read_only_map(tmp_path: Path) -> None:
    save_dataset(load_digits(), tmp_path / "digits")
    split = open_dataset(tmp_path / "digits").test
    x_NCHW, y_N = split.images(), split.labels()
    assert x_NCHW.shape == (359, 1, 8, 8)
    assert (x_NCHW.numpy()[:, 0] == split.x_NHWC[..., 0]).all()
    x_NCHW += 1
    y_N += 1
    assert (np.asarray(split.y_N) == y_N.numpy() - 1).all()
    assert len(split) == 359


def test_chance_is_a_percentage() -> None:
    assert load_digits().task.chance == 10.0
