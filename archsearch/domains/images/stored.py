"""Data sets at rest: plain .npy files that open as memory maps, and a small task.json."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from archsearch.data.notes import Note
from archsearch.domains.images.assemble import prevalence
from archsearch.domains.images.task import ImageDataset, ImageSplit, ImageTask
from archsearch.errors import Conflict, DataError
from archsearch.whole import is_full

SPLITS: tuple[Literal["train", "selection", "test"], ...] = ("train", "selection", "test")
RECORD = "task.json"
S = TypeVar("S", bound=np.generic)
FIX = "the stored data set is damaged: upload or load it again"


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
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        _write(dataset, temporary)
        os.replace(temporary, folder)
    except OSError as error:
        if not folder.exists():
            if is_full(error, folder.parent):  # NumPy only counts what it could not write
                raise OSError(errno.ENOSPC, f"{folder} cannot be written: {os.strerror(errno.ENOSPC)}") from None
            raise
        if not _holds(folder, dataset.sha256):
            raise Conflict(f"{folder} holds something else; choose another folder", field="folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def is_whole(folder: Path) -> bool:
    """Whether a data set stored in `folder` can be opened."""
    try:
        open_dataset(folder)
    except DataError:
        return False
    return True


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
        _write_array(folder / f"{name}_x.npy", split.x_NHWC)
        _write_array(folder / f"{name}_y.npy", split.y_N)
    images = {name: len(getattr(dataset, name)) for name in SPLITS}
    record = Record(sha256=dataset.sha256, images=images, task=dataset.task, notes=dataset.notes)
    with open(folder / RECORD, "w", encoding="utf-8") as file:
        file.write(record.model_dump_json(indent=2))
        file.flush()
        os.fsync(file.fileno())


def _write_array(path: Path, array: npt.NDArray[np.uint8] | npt.NDArray[np.int64]) -> None:
    with open(path, "wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        file.flush()
        # Renamed before its bytes are on the disk, a folder could survive a power cut empty.
        os.fsync(file.fileno())


def _open_split(folder: Path, name: Literal["train", "selection", "test"], record: Record) -> ImageSplit:
    task, count = record.task, record.images.get(name, -1)
    x_NHWC = _open_array(folder / f"{name}_x.npy", (count, task.height, task.width, task.in_chans), np.uint8)
    path = folder / f"{name}_y.npy"
    if task.kind == "multilabel":
        return ImageSplit(x_NHWC, _open_array(path, (count, task.classes), np.uint8))
    return ImageSplit(x_NHWC, _open_array(path, (count,), np.int64))


def _open_array(path: Path, shape: tuple[int, ...], dtype: type[S]) -> npt.NDArray[S]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot open {path} ({error}); {FIX}", field=path.name) from None
    if array.shape != shape or array.dtype != dtype:
        detail = f"{path} holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}; {FIX}"
        raise DataError(detail, field=path.name)
    typed: npt.NDArray[S] = array
    return typed
