"""Data sets at rest: plain .npy files that open as memory maps, and a small task.json."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from archsearch.data.at_rest import FIX, open_array, write_array, write_folder, write_record
from archsearch.data.labels import prevalence
from archsearch.data.notes import Note
from archsearch.data.task import Labels, awaits_teacher
from archsearch.domains.images.file_split import FileSplit
from archsearch.domains.images.stored_files import FilesRecord, Name, open_files, write_files
from archsearch.domains.images.task import ImageDataset, Images, ImageSplit, ImageTask
from archsearch.errors import DataError

SPLITS: tuple[Name, ...] = ("train", "selection", "test")
EVERY: tuple[Name, ...] = (*SPLITS, "unlabelled")
RECORD = "task.json"


class Record(BaseModel):
    """What task.json holds; `images` counts the images of each split and those without labels, `notes` is what loading
    found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # 2 where images stay files, 3 where some have no labels, 4 where none has: earlier versions read none of these.
    format: Literal[1, 2, 3, 4] = 1
    sha256: str
    images: dict[Name, int]
    task: ImageTask
    notes: tuple[Note, ...] = ()
    files: FilesRecord | None = None


def save_dataset(dataset: ImageDataset, folder: Path, *, own: bool = False) -> None:
    """Write the data set to `folder`, whole or not at all; the same data set there already is left alone.

    Raises Conflict where the folder holds anything else.

    Args:
        own: Whether images that stay files are copied; else it is written where they lie.
    """
    write_folder(folder, lambda new: _write(dataset, new, own=own), lambda there: _holds(there, dataset.sha256))


def open_dataset(folder: Path) -> ImageDataset:
    """The data set stored in `folder`, its arrays read-only memory maps; raises DataError if it is not whole.

    Shapes and types are compared with task.json; the bytes are not hashed again.
    """
    record = read_record(folder)
    task, splits = record.task, _open_splits(folder, record)
    if not task.prevalence and not awaits_teacher(task):  # stored before it was told of tasks with one label an image
        task = replace(task, prevalence=prevalence(splits["train"].y_N, task.classes))
    train, selection, test = splits["train"], splits["selection"], splits["test"]
    return ImageDataset(task, train, selection, test, record.sha256, record.notes, splits.get("unlabelled"))


def read_record(folder: Path) -> Record:
    """The task.json of a stored data set; raises DataError if there is none or it is damaged."""
    try:
        return Record.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"cannot read {folder / RECORD} ({type(error).__name__}); {FIX}", field=RECORD) from None


def _holds(folder: Path, sha256: str) -> bool:
    try:
        return read_record(folder).sha256 == sha256
    except DataError:
        return False


def _write(dataset: ImageDataset, folder: Path, *, own: bool) -> None:
    folder.mkdir()
    encoded: dict[Name, FileSplit] = {}
    splits: dict[Name, Images] = {name: getattr(dataset, name) for name in SPLITS}
    if dataset.unlabelled is not None:
        splits["unlabelled"] = dataset.unlabelled
    for name, split in splits.items():
        if isinstance(split, FileSplit):
            encoded[name] = split
        else:
            write_array(folder / f"{name}_x.npy", split.pixels(slice(None)))
        write_array(folder / f"{name}_y.npy", split.y_N)
    images = {name: len(split) for name, split in splits.items()}
    record = Record(sha256=dataset.sha256, images=images, task=dataset.task, notes=dataset.notes)
    if encoded:
        record = record.model_copy(update={"format": 2, "files": write_files(encoded, folder, own=own)})
    if dataset.unlabelled is not None:
        record = record.model_copy(update={"format": 3})
    if dataset.task.truth == "teacher":
        record = record.model_copy(update={"format": 4})
    write_record(folder / RECORD, record.model_dump_json(indent=2))


def _open_splits(folder: Path, record: Record) -> dict[Name, Images]:
    names = [name for name in EVERY if name in SPLITS or name in record.images]
    labels = {name: _open_labels(folder, name, record) for name in names}
    if record.files is not None:
        return {**open_files(record.files, labels, folder, record.task.height, record.task.width)}
    return {name: ImageSplit(_open_pixels(folder, name, record), labels[name]) for name in names}


def _open_pixels(folder: Path, name: Name, record: Record) -> npt.NDArray[np.uint8]:
    task, count = record.task, record.images.get(name, -1)
    return open_array(folder / f"{name}_x.npy", (count, task.height, task.width, task.in_chans), np.uint8)


def _open_labels(folder: Path, name: Name, record: Record) -> Labels:
    task, count, path = record.task, record.images.get(name, -1), folder / f"{name}_y.npy"
    if task.kind == "multilabel" and name != "unlabelled":
        return open_array(path, (count, task.classes), np.uint8)
    return open_array(path, (count,), np.int64)
