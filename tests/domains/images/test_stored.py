from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archsearch.data import Dataset, Note
from archsearch.domains import open_dataset, save_dataset
from archsearch.domains.images import load_digits
from archsearch.domains.images.assemble import assemble, fingerprint
from archsearch.domains.images.task import ImageSplit
from archsearch.errors import Conflict, DataError


@pytest.fixture
def dataset() -> Dataset:
    x_NHWC = np.random.default_rng(0).integers(0, 256, (12, 5, 7, 3), dtype=np.uint8)
    split = ImageSplit(x_NHWC, np.arange(12) % 2)
    return assemble(
        split, ImageSplit(x_NHWC[:4], split.y_N[:4]), ImageSplit(x_NHWC[4:9], split.y_N[4:9]), 2, ("cat", "hônd")
    )


def test_what_is_saved_opens_bit_for_bit(dataset: Dataset, tmp_path: Path) -> None:
    save_dataset(dataset, tmp_path / "new" / "set")
    opened = open_dataset(tmp_path / "new" / "set")
    assert opened.task == dataset.task
    for name in ("train", "selection", "test"):
        assert np.array_equal(getattr(opened, name).x_NHWC, getattr(dataset, name).x_NHWC)
        assert np.array_equal(getattr(opened, name).y_N, getattr(dataset, name).y_N)
    assert opened.sha256 == dataset.sha256 == fingerprint(opened.train, opened.selection, opened.test)


def test_notes_are_kept_and_older_records_have_none(dataset: Dataset, tmp_path: Path) -> None:
    noted = replace(dataset, notes=(Note("duplicates", "2 of 5 test images are also in train"),))
    save_dataset(noted, tmp_path / "set")
    assert open_dataset(tmp_path / "set").notes == noted.notes
    record = json.loads((tmp_path / "set" / "task.json").read_text())
    del record["notes"]
    (tmp_path / "set" / "task.json").write_text(json.dumps(record))
    assert open_dataset(tmp_path / "set").notes == ()


def test_a_record_of_before_gets_its_classes_shares(dataset: Dataset, tmp_path: Path) -> None:
    save_dataset(dataset, tmp_path / "set")
    record = json.loads((tmp_path / "set" / "task.json").read_text())
    record["task"]["prevalence"] = []
    (tmp_path / "set" / "task.json").write_text(json.dumps(record))
    assert open_dataset(tmp_path / "set").task.prevalence == dataset.task.prevalence == (0.5, 0.5)


def test_opening_maps_the_files_and_cannot_change_them(dataset: Dataset, tmp_path: Path) -> None:
    save_dataset(dataset, tmp_path / "set")
    train = open_dataset(tmp_path / "set").train
    assert isinstance(train.x_NHWC, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        train.x_NHWC[0] = 0


def test_saving_the_same_again_changes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    save_dataset(dataset, tmp_path / "set")
    save_dataset(dataset, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_saving_over_something_else_is_a_conflict(dataset: Dataset, tmp_path: Path, refused) -> None:
    save_dataset(load_digits(), tmp_path / "set")
    (tmp_path / "file").write_text("mine")
    for name in ("set", "file"):
        with refused(Conflict, "folder", "something else"):
            save_dataset(dataset, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "set"]


def test_a_failed_save_leaves_nothing(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        save_dataset(dataset, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_damaged_record_is_named(dataset: Dataset, tmp_path: Path, refused) -> None:
    with refused(DataError, "task.json", "FileNotFoundError"):
        open_dataset(tmp_path / "nothing")
    save_dataset(dataset, tmp_path / "set")
    (tmp_path / "set" / "task.json").write_text("{}")
    with refused(DataError, "task.json", "ValidationError"):
        open_dataset(tmp_path / "set")


def test_a_cut_off_or_foreign_array_is_named(dataset: Dataset, tmp_path: Path, refused) -> None:
    save_dataset(dataset, tmp_path / "set")
    path = tmp_path / "set" / "test_x.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with refused(DataError, "test_x.npy", "cannot open"):
        open_dataset(tmp_path / "set")
    np.save(path, np.zeros((5, 5, 5, 3), dtype=np.uint8))
    with refused(DataError, "test_x.npy", "(5, 5, 7, 3)"):
        open_dataset(tmp_path / "set")


def test_many_labels_keep_their_shape_and_kind(pairs: Dataset, tmp_path: Path) -> None:
    save_dataset(pairs, tmp_path / "set")
    opened = open_dataset(tmp_path / "set")
    assert opened.task == pairs.task
    assert opened.task.kind == "multilabel"
    assert (opened.test.y_N.dtype, opened.test.y_N.shape) == (np.uint8, (359, 10))
    assert opened.sha256 == fingerprint(opened.train, opened.selection, opened.test)


def test_a_record_from_before_there_were_kinds_means_one_label(dataset: Dataset, tmp_path: Path, refused) -> None:
    save_dataset(dataset, tmp_path / "set")
    path = tmp_path / "set" / "task.json"
    record = json.loads(path.read_text())
    del record["task"]["kind"], record["task"]["prevalence"]
    path.write_text(json.dumps(record))
    assert open_dataset(tmp_path / "set").task == dataset.task
    record["task"]["kind"] = "detection"
    path.write_text(json.dumps(record))
    with refused(DataError, "task.json", "ValidationError"):
        open_dataset(tmp_path / "set")


def test_labels_of_another_shape_than_the_tasks_are_named(pairs: Dataset, tmp_path: Path, refused) -> None:
    save_dataset(pairs, tmp_path / "set")
    for wrong in (pairs.test.y_N[:, :9], pairs.test.y_N.astype(np.int64), pairs.test.y_N[:, 0]):
        np.save(tmp_path / "set" / "test_y.npy", wrong)
        with refused(DataError, "test_y.npy", "(359, 10)"):
            open_dataset(tmp_path / "set")
