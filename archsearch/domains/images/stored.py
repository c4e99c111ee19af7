"""Data sets at rest: plain .npy files that open as memory maps, and a small task.json."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from archsearch.data.at_rest import FIX, open_array, write_array, write_folder, write_record
from archsearch.data.labels import prevalence
from archsearch.data.notes import Note
from archsearch.domains.images.task import ImageDataset, ImageSplit, ImageTask
from archsearch.errors import DataError

SPLITS: tuple[Literal["train", "selection", "test"], ...] = ("train", "selection", "test")
RECORD = "task.json"


class Record(BaseModel):
    """What task.json holds; `images` counts the images of each split, `notes` is what loading found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    sha256: str
    images: dict[Literal["train", "selection", "test"], int]
    task: ImageTask
    notes: tuple[Note, ...] = ()


def save_dataset(dataset: ImageDataset, folder: Path) -> None:
    """Write the data set to `folder`, whole or not at all; the same data set there already is left alone.

    Raises Conflict where the folder holds anything else.
    """
    write_folder(folder, lambda new: _write(dataset, new), lambda there: _holds(there, dataset.sha256))


def open_dataset(folder: Path) -> ImageDataset:
    """The data set stored in `folder`, its arrays read-only memory maps; raises DataError if it is not whole.

    Shapes and types are compared with task.json; the bytes are not hashed again.
    """
    record = read_record(folder)
    splits = {name: _open_split(folder, name, record) for name in SPLITS}
    task = record.task
    if not task.prevalence:  # stored before it was told of tasks with one label an image
        task = replace(task, prevalence=prevalence(splits["train"].y_N, task.classes))
    return ImageDataset(task, splits["train"], splits["selection"], splits["test"], record.sha256, record.notes)


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


def _write(dataset: ImageDataset, folder: Path) -> None:
    folder.mkdir()
    for name in SPLITS:
        split: ImageSplit = getattr(dataset, name)
        write_array(folder / f"{name}_x.npy", split.x_NHWC)
        write_array(folder / f"{name}_y.npy", split.y_N)
    images = {name: len(getattr(dataset, name)) for name in SPLITS}
    record = Record(sha256=dataset.sha256, images=images, task=dataset.task, notes=dataset.notes)
    write_record(folder / RECORD, record.model_dump_json(indent=2))


def _open_split(folder: Path, name: Literal["train", "selection", "test"], record: Record) -> ImageSplit:
    task, count = record.task, record.images.get(name, -1)
    x_NHWC = open_array(folder / f"{name}_x.npy", (count, task.height, task.width, task.in_chans), np.uint8)
    path = folder / f"{name}_y.npy"
    if task.kind == "multilabel":
        return ImageSplit(x_NHWC, open_array(path, (count, task.classes), np.uint8))
    return ImageSplit(x_NHWC, open_array(path, (count,), np.int64))
