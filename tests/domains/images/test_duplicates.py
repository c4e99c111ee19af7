from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch.data import Dataset
from archsearch.data.splits import complete
from archsearch.domains.images import load_image_folder, load_npz
from archsearch.domains.images.task import ImageSplit
from archsearch.errors import DataError

# 200 images that all differ, of four classes.
X_NHWC = np.random.default_rng(1).integers(0, 256, (200, 6, 6, 1), dtype=np.uint8)
Y_N = np.arange(200) % 4
Load = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`load("drop", x_test=…, y_test=…)`: 200 training images, and what else is given."""

    def write_and_load(duplicates: Any = "refuse", **arrays: Any) -> Dataset:
        np.savez(tmp_path / "a.npz", **({"x_train": X_NHWC, "y_train": Y_N} | arrays))
        return load_npz(tmp_path / "a.npz", duplicates=duplicates)

    return write_and_load


def held_out(leaked: int, count: int = 40) -> dict[str, Any]:
    """A test split of new images, the first few of which are training images."""
    x_NHWC = np.random.default_rng(2).integers(0, 256, (count, 6, 6, 1), dtype=np.uint8)
    y_N = np.arange(count) % 4
    x_NHWC[:leaked], y_N[:leaked] = X_NHWC[50 : 50 + leaked], Y_N[50 : 50 + leaked]
    return {"x_test": x_NHWC, "y_test": y_N}


def codes(dataset: Dataset) -> list[str]:
    return [note.code for note in dataset.notes]


def images(*splits: ImageSplit) -> set[bytes]:
    return {image.tobytes() for split in splits for image in split.x_NHWC}


def test_images_that_all_differ_are_not_mentioned(load: Load) -> None:
    assert load(**held_out(0)).notes == ()


def test_a_few_test_images_in_train_are_told_with_their_number(load: Load) -> None:
    (note,) = load(**held_out(3)).notes
    assert note.code == "test_images_in_train"
    assert note.detail == "3 of 40 test images are also in train (image 0 of x_test is image 50 of x_train)"


def test_many_test_images_in_train_are_refused_unless_asked_for(load: Load) -> None:
    with pytest.raises(DataError, match=r"5 of 40 test images are also in train.*set duplicates to drop") as caught:
        load(**held_out(5))
    assert caught.value.field == "duplicates"
    assert codes(load("warn", **held_out(5))) == ["test_images_in_train"]
    dropped = load("drop", **held_out(5))
    assert codes(dropped) == ["test_images_in_train", "duplicates_dropped"]
    assert (len(dropped.train) + len(dropped.selection), len(dropped.test)) == (195, 40)
    assert not images(dropped.train, dropped.selection) & images(dropped.test)


def test_an_image_in_two_classes_is_told_refused_or_left_out(load: Load) -> None:
    x_NHWC = X_NHWC.copy()
    x_NHWC[101] = x_NHWC[40]
    (note, again) = load(x_train=x_NHWC).notes
    assert (note.code, again.code) == ("conflicting_labels", "repeated_images")
    assert "2 of 200 images have other labels elsewhere" in note.detail
    assert "image 101 of x_train is image 40 of x_train" in note.detail
    dropped = load("drop", x_train=x_NHWC)
    assert x_NHWC[40].tobytes() not in images(dropped.train, dropped.selection, dropped.test)
    x_NHWC[1:200:20] = x_NHWC[40]
    with pytest.raises(DataError, match=r"1\d of 200 images have other labels"):
        load(x_train=x_NHWC)


def test_copies_stay_together_where_images_are_held_out(load: Load) -> None:
    """Of every image there is a copy; torn apart, a fifth of them would be learned and tested on."""
    dataset = load(x_train=np.concatenate([X_NHWC, X_NHWC]), y_train=np.concatenate([Y_N, Y_N]))
    assert codes(dataset) == ["repeated_images"]
    splits = (dataset.train, dataset.selection, dataset.test)
    assert [len(split) for split in splits] == [264, 56, 80]
    assert sum(len(images(split)) for split in splits) == len(images(*splits)) == 200


def test_data_without_copies_is_split_as_ever() -> None:
    plain = complete(ImageSplit(X_NHWC, Y_N), None, None)
    grouped = complete(ImageSplit(X_NHWC, Y_N), None, None, np.arange(200))
    for one, other in zip(plain, grouped, strict=True):
        assert np.array_equal(one.x_NHWC, other.x_NHWC)


def test_no_class_leaves_train_with_the_copies_of_another(load: Load) -> None:
    """Every image of class 1 is also one of class 0: kept together, they would all be held out, or none."""
    x_NHWC = X_NHWC[:8].copy()
    x_NHWC[1::2] = x_NHWC[0::2]
    dataset = load("warn", x_train=x_NHWC, y_train=np.array([0, 1] * 4))
    for split in (dataset.train, dataset.selection, dataset.test):
        assert len(split) > 0
    assert set(dataset.train.y_N) == {0, 1}


def test_many_labels_conflict_too(load: Load) -> None:
    y_NK = np.stack([Y_N < 2, Y_N % 2 == 0], axis=1)
    x_NHWC = X_NHWC.copy()
    x_NHWC[101] = x_NHWC[40]
    assert codes(load(x_train=x_NHWC, y_train=y_NK)) == ["conflicting_labels", "repeated_images"]
    x_NHWC[101], x_NHWC[104] = X_NHWC[101], x_NHWC[40]
    assert codes(load(x_train=x_NHWC, y_train=y_NK)) == ["repeated_images"]


def test_files_are_named(make_zip, picture) -> None:
    train = {f"train/{name}/{i}.png": picture(10 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(9)}
    test = {f"test/{name}/{i}.png": picture(50 + 10 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(9)}
    path = make_zip({**train, **test, "test/dog/5.png": picture(12)})
    (note,) = load_image_folder(path).notes
    assert note.detail == "1 of 18 test images are also in train (test/dog/5.png is train/dog/2.png)"


def test_dropping_leaves_no_class_without_images(make_zip, picture) -> None:
    members = {f"{name}/{i}.png": picture(10 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(4)}
    members |= {f"eel/{i}.png": picture(7) for i in range(4)}
    with pytest.raises(DataError, match=r"class 2 \('eel'\) has 1 training image"):
        load_image_folder(make_zip(members), duplicates="drop")
