"""Images that stay files, at rest: what is known of them, and the files themselves or where they lie.

A service keeps a copy of the files, one after another in a single one, so that the upload may go.
"""

# N files

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from archsearch.data.at_rest import FIX, open_array, write_array
from archsearch.data.ragged import Ragged, unpacked
from archsearch.data.task import Labels
from archsearch.domains.images.encoded import Encoded, Folder, Parts, Source
from archsearch.domains.images.file_split import FileSplit
from archsearch.domains.images.survey import open_survey
from archsearch.errors import DataError
from archsearch.request import Fit

Name = Literal["train", "selection", "test", "unlabelled"]
# The files one after another, where they are the data set's own.
OWN = "images.bin"
_PLACES = {"start_N": np.int64, "length_N": np.int64, "plain_N": np.int64, "packed_N": np.bool_}


class FilesRecord(BaseModel):
    """How the files of a stored data set are found.

    Attributes:
        root: The folder they lie in, or the file they are parts of; None where that is the data set's own.
        parts: Whether they are parts of a file.
        count: How many there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str | None
    parts: bool
    count: int
    channels: int
    fit: Fit


def write_files(splits: dict[Name, FileSplit], folder: Path, *, own: bool) -> FilesRecord:
    """Write all but the labels; the splits are of one `Encoded`.

    Args:
        own: Whether the files' bytes are written, too.
    """
    encoded = next(iter(splits.values())).encoded
    rows_M = np.unique(np.concatenate([split.row_N for split in splits.values()]))
    for name, split in splits.items():
        write_array(folder / f"{name}_row.npy", np.searchsorted(rows_M, split.row_N).astype(np.int64))
    encoded.survey.take(rows_M).save(folder)
    source = _copied(encoded, rows_M.tolist(), folder / OWN) if own else _taken(encoded.source, rows_M)
    flat, starts = source.names.packed()
    write_array(folder / "names.npy", flat)
    write_array(folder / "names_start.npy", starts)
    if isinstance(source, Folder):
        root, parts = source.root, False
    else:
        assert isinstance(source, Parts)
        root, parts = source.path, True
        for field in _PLACES:
            write_array(folder / f"{field}.npy", getattr(source, field))
    where = None if own else str(root.resolve())
    return FilesRecord(root=where, parts=parts, count=len(rows_M), channels=encoded.channels, fit=encoded.fit)


def open_files(
    record: FilesRecord, labels: dict[Name, Labels], folder: Path, height: int, width: int
) -> dict[Name, FileSplit]:
    """What `write_files` wrote; raises DataError where it, or the files, are not there."""
    root = folder / OWN if record.root is None else Path(record.root)
    source = _source(record, root, folder)
    encoded = Encoded(source, open_survey(folder, record.count, height, width), record.channels, record.fit)
    found: dict[Name, FileSplit] = {}
    for name, y_N in labels.items():
        found[name] = FileSplit(encoded, open_array(folder / f"{name}_row.npy", (len(y_N),), np.int64), y_N)
    return found


def _source(record: FilesRecord, root: Path, folder: Path) -> Source:
    starts = open_array(folder / "names_start.npy", (record.count + 1,), np.int64)
    names = unpacked(open_array(folder / "names.npy", (int(starts[-1]),), np.uint8), starts)
    if not record.parts:
        if not root.is_dir():
            raise DataError("the folder of images is gone; put it back", field="path")
        return Folder(root, names)
    start_N, length_N, plain_N = (
        open_array(folder / f"{field}.npy", (record.count,), np.int64) for field in ("start_N", "length_N", "plain_N")
    )
    packed_N = open_array(folder / "packed_N.npy", (record.count,), np.bool_)
    size_bytes = root.stat().st_size if root.is_file() else 0
    if record.count and size_bytes < int((start_N + length_N).max()):
        raise DataError(f"the file of images is cut short or gone; {FIX}", field=OWN)
    return Parts(root, names, start_N, length_N, plain_N, packed_N)


def _taken(source: Source, rows_M: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Source:
    """Some of the files."""
    if isinstance(source, Folder):
        return Folder(source.root, source.names.take(rows_M))
    assert isinstance(source, Parts)
    places = {field: getattr(source, field)[rows_M] for field in _PLACES}
    return replace(source, names=source.names.take(rows_M), **places)


def _copied(encoded: Encoded, rows: list[int], path: Path) -> Parts:
    """The files one after another in a new one, its bytes on the disk once this returns."""
    length_N = np.zeros(len(rows), np.int64)
    with path.open("wb") as file:
        for place, row in enumerate(rows):
            length_N[place] = file.write(encoded.bytes(row))
        file.flush()
        os.fsync(file.fileno())
    names: Ragged = encoded.source.names.take(np.array(rows, np.int64))
    start_N = np.concatenate([[0], np.cumsum(length_N)])[:-1].astype(np.int64)
    return Parts(path, names, start_N, length_N, length_N, np.zeros(len(rows), np.bool_))
