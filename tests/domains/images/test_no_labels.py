"""Images of which none has a label: where that is plain, how they are parted, and how they are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch import domains
from archsearch.data import Dataset, Limits
from archsearch.data.metrics import AGREEMENT
from archsearch.domains import open_dataset, save_dataset
from archsearch.domains.images import load_image_folder, load_npz, streamed
from archsearch.domains.images.file_split import FileSplit
from archsearch.domains.images.measured import load_measured
from archsearch.errors import DataError, InvalidRequest, TooLarge
from archsearch.request import ImageFolderData, NpzData

Picture = Callable[..., bytes]


def x(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def sizes(dataset: Dataset) -> tuple[int, int, int]:
    return len(dataset.train), len(dataset.selection), len(dataset.test)


def pixels(split: Any) -> list[bytes]:
    return [image.tobytes() for image in split.pixels(slice(None))]


def check_unlabelled(dataset: Dataset) -> None:
    """Nothing is known of its classes, and whoever takes its labels for such fails."""
    task = dataset.task
    assert (task.truth, task.classes, task.class_names, task.prevalence) == ("teacher", 0, (), ())
    assert not task.uneven
    assert domains.judge(task) is AGREEMENT
    assert dataset.unlabelled is None
    for split in (dataset.train, dataset.selection, dataset.test):
        assert set(split.y_N.tolist()) == {-1}
    assert dataset.notes[0].code == "no_labels"
    assert "judged by agreement with the teacher; no label was seen" in dataset.notes[0].detail


def test_an_npz_of_nothing_but_images_is_parted_as_labelled_ones_are(tmp_path: Path) -> None:
    dataset = load_npz(saved(tmp_path, x_unlabelled=x(100)))
    check_unlabelled(dataset)
    assert sizes(dataset) == (65, 15, 20)
    again = load_npz(saved(tmp_path, x_train=x(100)))
    assert [pixels(split) for split in (again.train, again.test)] == [pixels(s) for s in (dataset.train, dataset.test)]
    assert sorted(pixels(dataset.train) + pixels(dataset.selection) + pixels(dataset.test)) == sorted(
        image.tobytes() for image in x(100)
    )


def test_splits_that_are_given_stay_and_images_of_both_keys_are_learned_from(tmp_path: Path) -> None:
    given = saved(tmp_path, x_train=x(20), x_unlabelled=x(10, 1), x_selection=x(6, 2), x_test=x(7, 3))
    dataset = load_npz(given)
    check_unlabelled(dataset)
    assert sizes(dataset) == (30, 6, 7)
    assert pixels(dataset.train)[20:] == [image.tobytes() for image in x(10, 1)]


def test_the_same_images_with_labels_are_other_data(tmp_path: Path) -> None:
    splits = {"x_train": x(20), "x_selection": x(6, 2), "x_test": x(7, 3)}
    labels = {f"y{name[1:]}": np.arange(len(images)) % 2 for name, images in splits.items()}
    assert load_npz(saved(tmp_path, **splits)).sha256 != load_npz(saved(tmp_path, **splits, **labels)).sha256


@pytest.mark.parametrize(
    ("arrays", "field", "part"),
    [
        ({"x_train": x(9), "names": np.arange(9)}, "y_train", "no such array"),
        ({"x_train": x(9), "class_names": np.array(["a", "b"])}, "y_train", "no such array"),
        ({"x_test": x(9)}, "x_train", "no such array"),
        ({"x_train": x(2)}, "x_train", "2 images and none has a label; give 3 or more"),
        ({"x_train": x(9), "x_test": x(9)[:, :5]}, "x_test", "make them equal"),
    ],
)
def test_arrays_that_are_not_plainly_so_are_refused(tmp_path: Path, refused, arrays, field: str, part: str) -> None:
    with refused(DataError, field, part):
        load_npz(saved(tmp_path, **arrays))


@pytest.mark.parametrize(
    "names",
    [
        [f"unlabelled/{i}.png" for i in range(20)],
        [f"photos/Unlabeled/{i}.png" for i in range(20)],
        [f"unlabelled/{'ab'[i % 2]}/{i}.png" for i in range(20)],
        [f"{i}.png" for i in range(20)],
        [f"train/{i}.png" for i in range(20)],
    ],
)
def test_a_folder_or_zip_without_classes_has_no_labels(make_zip, picture: Picture, names: list[str]) -> None:
    dataset = load_image_folder(make_zip({name: picture(i) for i, name in enumerate(names)}))
    check_unlabelled(dataset)
    assert sizes(dataset) == (13, 3, 4)


def test_folders_of_splits_without_classes(make_zip, picture: Picture) -> None:
    names = [f"{split}/{i}.png" for split in ("train", "val", "test", "unlabelled") for i in range(5)]
    dataset = load_image_folder(make_zip({name: picture(i) for i, name in enumerate(names)}))
    check_unlabelled(dataset)
    assert sizes(dataset) == (10, 5, 5)


@pytest.mark.parametrize(
    ("names", "field", "part"),
    [
        ([f"cat/{i}.png" for i in range(4)], "path", "only one class folder"),
        ([f"unlabelled/{i}.png" for i in range(4)] + ["0.png"], "0.png", "beside the class folders"),
        ([f"unlabelled/train/{i}.png" for i in range(4)], "unlabelled/train/", "move them up"),
        ([f"unlabelled/{i}.png" for i in range(4)] + ["unlabeled/5.png"], "unlabelled/", "into one of them"),
        (["unlabelled/a.gif", "unlabelled/b.mp4", "unlabelled/c.png"], "unlabelled/b.mp4", "none of PNG"),
    ],
)
def test_what_is_unclear_is_refused(make_zip, picture: Picture, refused, names, field: str, part: str) -> None:
    with refused(DataError, field, part):
        load_image_folder(make_zip({name: picture(i) for i, name in enumerate(names)}))


def test_a_service_takes_no_more_of_them_than_of_others(make_zip, picture: Picture) -> None:
    path = make_zip({f"{i}.png": picture(i) for i in range(6)})
    with pytest.raises(TooLarge, match="6 images, at most 5"):
        load_image_folder(path, limits=Limits(max_examples=5))


def test_copies_are_left_out_and_stay_together(make_zip, picture: Picture) -> None:
    path = make_zip({f"{i}.png": picture(i // 2) for i in range(40)})
    assert sum(sizes(load_image_folder(path, duplicates="drop"))) == 20
    together = load_image_folder(path)
    assert not {*pixels(together.train)} & {*pixels(together.test)}
    assert "repeated_images" in [note.code for note in together.notes]


@pytest.mark.parametrize("as_files", [False, True])
def test_at_rest_they_are_what_they_were(
    make_zip, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_files: bool
) -> None:
    if as_files:
        monkeypatch.setattr(streamed, "MOST_BYTES", 0)
    dataset = load_image_folder(make_zip({f"{i}.png": picture(i) for i in range(20)}))
    assert isinstance(dataset.train, FileSplit) == as_files
    save_dataset(dataset, tmp_path / "kept", own=True)
    again = open_dataset(tmp_path / "kept")
    check_unlabelled(again)
    assert (again.task, again.sha256, again.notes) == (dataset.task, dataset.sha256, dataset.notes)
    assert pixels(again.train) == pixels(dataset.train)


def test_nothing_is_measured_on_them(make_zip, picture: Picture, tmp_path: Path, gray_task) -> None:
    folder = make_zip({f"{i}.png": picture(i) for i in range(6)})
    for spec in (ImageFolderData(path=folder), NpzData(path=saved(tmp_path, x_test=x(4), x_train=x(9)))):
        with pytest.raises(InvalidRequest, match="no image has a label to measure answers by") as caught:
            load_measured(spec, gray_task)
        assert caught.value.field == "--data"
