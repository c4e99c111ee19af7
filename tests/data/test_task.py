from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from archsearch.data import Dataset
from archsearch.domains import open_dataset, save_dataset
from archsearch.domains.images import load_digits


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
    assert load_digits().task.chance == pytest.approx(10.0, abs=0.3)


def test_chance_is_the_largest_class_or_an_equal_share_where_classes_are_uneven() -> None:
    task = replace(load_digits().task, classes=2)
    assert replace(task, prevalence=(0.7, 0.3)).chance == 70
    assert replace(task, prevalence=(0.95, 0.05)).chance == 50
    assert replace(task, prevalence=()).chance == 50
    assert [replace(task, prevalence=shares).uneven for shares in [(0.7, 0.3), (0.8, 0.2), ()]] == [False, True, False]


def test_many_labels_are_a_float_tensor_as_their_loss_takes_it(pairs: Dataset) -> None:
    y_NK = pairs.test.labels()
    assert (y_NK.shape, y_NK.dtype) == ((359, 10), torch.float32)
    assert np.array_equal(y_NK.numpy(), pairs.test.y_N)
    y_NK += 1
    assert pairs.test.y_N.max() == 1


def test_chance_with_many_labels_is_their_mean_prevalence(pairs: Dataset) -> None:
    assert pairs.task.chance == pytest.approx(100 * pairs.train.y_N.mean())
    assert replace(pairs.task, prevalence=(0.1, 0.2, 0.6)).chance == pytest.approx(30)


def test_rows_are_taken_with_their_labels(pairs: Dataset) -> None:
    few = pairs.train.take(np.array([5, 2]))
    assert np.array_equal(few.x_NHWC, pairs.train.x_NHWC[[5, 2]])
    assert np.array_equal(few.y_N, pairs.train.y_N[[5, 2]])
    assert len(pairs.train.take(slice(3, 7))) == 4
