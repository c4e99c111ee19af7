"""Images that nobody has labelled: where they lie, what is checked of them, and how they are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch.data import Dataset, Limits
from archsearch.domains import open_dataset, save_dataset
from archsearch.domains.images import load_image_folder, load_npz, streamed
from archsearch.domains.images.file_split import FileSplit
from archsearch.domains.images.image_folder import read_image_folder
from archsearch.domains.images.measured import load_measured
from archsearch.errors import DataError
from archsearch.request import ImageFolderData

Picture = Callable[..., bytes]


@pytest.fixture
def good(picture: Picture) -> dict[str, bytes]:
    """Six pictures each of cats and dogs, and five without labels."""
    known = {f"{name}/{i}.png": picture(10 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(6)}
    return known | {f"unlabelled/{i}.png": picture(100 + i) for i in range(5)}


def in_splits(good: Mapping[str, bytes], picture: Picture, apart: str = "unlabelled") -> dict[str, bytes]:
    """The same in train/ and test/, with images without labels beside them."""
    names = {name: name if name.startswith("unlabelled") else f"train/{name}" for name in good}
    moved = {names[name].replace("unlabelled", apart): data for name, data in good.items()}
    return moved | {f"test/{name}/0.png": picture(200 + k) for k, name in enumerate(("cat", "dog"))}


def pixels(split: Any) -> list[bytes]:
    return sorted(image.tobytes() for image in split.pixels(slice(None)))


def test_images_beside_the_classes_have_no_labels_and_are_told_of(good, make_zip, picture) -> None:
    dataset = load_image_folder(make_zip(good))
    assert dataset.unlabelled is not None
    assert dataset.task.class_names == ("cat", "dog")
    assert (len(dataset.train), len(dataset.unlabelled), dataset.training_examples) == (8, 5, 13)
    assert dataset.unlabelled.y_N.tolist() == [-1] * 5
    (note,) = dataset.notes
    assert note.code == "unlabelled_images"
    assert "5 images in unlabelled/" in note.detail
    plain = load_image_folder(make_zip({name: data for name, data in good.items() if "unlabelled" not in name}))
    assert plain.unlabelled is None
    assert plain.sha256 != dataset.sha256
    assert plain.task == dataset.task
    assert pixels(plain.test) == pixels(dataset.test)


@pytest.mark.parametrize("apart", ["unlabelled", "Unlabeled", "unlabelled/deeper/still"])
@pytest.mark.parametrize("around", ["", "pets/"])
def test_images_beside_the_splits_have_no_labels(good, make_zip, picture, apart: str, around: str) -> None:
    members = in_splits(good, picture, apart)
    dataset = load_image_folder(make_zip({around + name: data for name, data in members.items()}))
    assert dataset.unlabelled is not None
    assert (len(dataset.unlabelled), len(dataset.test), dataset.notes) == (5, 2, ())


def test_classes_may_have_a_folder_of_their_own_around_them(good, make_zip) -> None:
    moved = {name if name.startswith("unlabelled") else f"known/{name}": data for name, data in good.items()}
    assert load_image_folder(make_zip(moved)).task.class_names == ("cat", "dog")


def test_a_class_called_so_is_one_where_another_split_has_it(good, make_zip, picture, refused) -> None:
    train = {f"train/cat/{i}.png": good[f"cat/{i}.png"] for i in range(6)}
    train |= {f"train/unlabelled/{i}.png": picture(300 + i) for i in range(6)}
    test = {"test/cat/0.png": picture(1000), "test/unlabelled/0.png": picture(1001)}
    assert load_image_folder(make_zip(train | test)).task.class_names == ("cat", "unlabelled")
    with refused(DataError, "unlabelled/", "move it beside train/, or call it otherwise"):
        load_image_folder(make_zip(train))


@pytest.mark.parametrize(
    ("added", "field", "part"),
    [
        ({"unlabeled/0.png": 400}, "unlabelled/", "put all images without labels into one"),
        ({"unlabelled/train/0.png": 400}, "unlabelled/train/", "move them up"),
        ({"unlabelled/film.mp4": 400}, "unlabelled/film.mp4", "is none of PNG"),
    ],
)
def test_what_is_unclear_is_refused(good, make_zip, picture, refused, added, field, part) -> None:
    with refused(DataError, field, part):
        load_image_folder(make_zip(good | {name: picture(seed) for name, seed in added.items()}))


def test_an_empty_folder_is_refused(good, make_zip, refused) -> None:
    members = {name: data for name, data in good.items() if not name.startswith("unlabelled")}
    with refused(DataError, "unlabelled/", "holds no image"):
        load_image_folder(make_zip(members | {"unlabelled/": b""}))


def test_another_size_is_refused_or_becomes_that_of_the_others(good, make_zip, picture, refused) -> None:
    members = good | {"unlabelled/wide.png": picture(500, size=(12, 6))}
    with refused(DataError, "image_size", "unlabelled/wide.png is 6×12 pixels"):
        load_image_folder(make_zip(members))
    cropped, stretched = (load_image_folder(make_zip(members), 6, fit=fit).unlabelled for fit in ("crop", "stretch"))
    assert cropped is not None
    assert stretched is not None
    assert len(cropped) == len(stretched) == 6
    assert pixels(cropped) != pixels(stretched)


def test_broken_ones_are_refused_or_left_out(good, make_zip, refused) -> None:
    members = good | {"unlabelled/0.png": b"no image"}
    with refused(DataError, "unlabelled/0.png", "is damaged"):
        load_image_folder(make_zip(members))
    left = load_image_folder(make_zip(members), on_broken="skip").unlabelled
    assert left is not None
    assert len(left) == 4


def test_too_many_are_refused(good, make_zip) -> None:
    with pytest.raises(Exception, match="17 images, at most 16 are taken"):
        load_image_folder(make_zip(good), limits=Limits(max_examples=16))


def test_what_is_measured_on_is_no_image_without_label(good, make_zip, picture, refused) -> None:
    """Nor is one there twice: as `duplicates` says."""
    members = in_splits(good, picture)
    members["unlabelled/0.png"] = members["test/cat/0.png"]
    members["unlabelled/1.png"] = members["unlabelled/2.png"]
    members["unlabelled/3.png"] = members["train/cat/1.png"]
    path = make_zip(members)
    with refused(DataError, "duplicates", "1 of 5 images without labels are also in test (unlabelled/0.png is one)"):
        load_image_folder(path)
    warned, dropped = (load_image_folder(path, duplicates=duplicates) for duplicates in ("warn", "drop"))
    assert [note.code for note in warned.notes] == ["unlabelled_images_in_test"]
    assert warned.unlabelled is not None
    assert len(warned.unlabelled) == 5
    assert [note.code for note in dropped.notes] == ["unlabelled_images_in_test", "duplicates_dropped"]
    assert dropped.unlabelled is not None
    elsewhere = {*pixels(dropped.test), *pixels(dropped.train)}
    assert pixels(dropped.unlabelled) == sorted(set(pixels(warned.unlabelled)) - elsewhere)
    assert pixels(dropped.train) == pixels(warned.train)


def test_what_is_held_out_later_is_found_too(good, make_zip) -> None:
    members = good | {f"unlabelled/again-{i}.png": good[f"{name}/{i}.png"] for i in range(6) for name in ("cat",)}
    left = load_image_folder(make_zip(members), duplicates="drop").unlabelled
    assert left is not None
    assert len(left) == 5


def test_a_table_of_labels_needs_no_row_for_them(good, make_zip, picture, refused) -> None:
    rows = [f"{i}.png,{i % 2},{int(i % 3 == 0)}" for i in range(12)]
    members = {"labels.csv": "\n".join(["file,cat,dog", *rows]).encode()}
    members |= {f"{i}.png": picture(i) for i in range(12)}
    apart = {f"unlabelled/{i}.png": picture(100 + i) for i in range(3)}
    dataset = load_image_folder(make_zip(members | apart))
    assert dataset.task.kind == "multilabel"
    assert dataset.unlabelled is not None
    assert dataset.unlabelled.y_N.tolist() == [-1] * 3
    assert dataset.train.joined([dataset.unlabelled]).y_N.shape == (len(dataset.train) + 3, 2)
    with refused(DataError, "other/0.png", "has no row"):
        load_image_folder(make_zip(members | {"other/0.png": picture(7)}))


def save_npz(path: Path, **arrays: Any) -> Path:
    x_NHWC = np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
    np.savez(path, **{"x_train": x_NHWC, "y_train": np.arange(30) % 3, **arrays})
    return path


def test_an_npz_has_them_as_x_unlabelled(tmp_path: Path, refused) -> None:
    x_NHWC = np.random.default_rng(1).integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)
    path = tmp_path / "a.npz"
    dataset = load_npz(save_npz(path, x_unlabelled=x_NHWC))
    assert dataset.unlabelled is not None
    assert np.array_equal(dataset.unlabelled.pixels(slice(None)), x_NHWC)
    assert dataset.sha256 != load_npz(save_npz(path)).sha256
    for name, array, part in (
        ("x_unlabelled", x_NHWC[:, :5], "has images of shape (5, 5, 3), x_train of (6, 5, 3)"),
        ("x_unlabelled", x_NHWC.astype(np.int64), "has type int64"),
        ("y_unlabelled", np.zeros(7, np.int64), "have no labels"),
        ("x_unlabeled", x_NHWC, "rename it x_unlabelled"),
    ):
        with refused(DataError, name, part):
            load_npz(save_npz(path, **{name: array}))


@pytest.mark.parametrize("files", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_they_are_kept_with_the_data(
    good, make_zip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: bool, own: bool
) -> None:
    if files:
        monkeypatch.setattr(streamed, "MOST_BYTES", 0)
    dataset: Dataset = load_image_folder(make_zip(good))
    assert isinstance(dataset.unlabelled, FileSplit) is files
    save_dataset(dataset, tmp_path / "set", own=own)
    opened = open_dataset(tmp_path / "set")
    assert opened.sha256 == dataset.sha256
    assert opened.unlabelled.y_N.tolist() == [-1] * 5
    for name in ("train", "unlabelled"):
        before, after = getattr(dataset, name), getattr(opened, name)
        assert np.array_equal(before.pixels(slice(None)), after.pixels(slice(None)))


def test_whoever_measures_leaves_them_aside_and_knows_the_data_again(good, make_zip) -> None:
    path = make_zip(good)
    dataset = load_image_folder(path)
    limits = Limits(min_per_class=0, to_learn_from=False)
    splits, _, _ = read_image_folder(path, None, limits, fit="crop", on_broken="refuse")
    assert splits.keys() == {"train", "unlabelled"}
    found = load_measured(ImageFolderData(path=path), dataset.task, learned_from=dataset.sha256)
    assert pixels(found.dataset.test) == pixels(dataset.test)
    everything = load_measured(ImageFolderData(path=path), dataset.task)
    assert (everything.part, len(everything.dataset.test)) == ("all", 12)
