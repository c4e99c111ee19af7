"""Texts and tokens at rest: plain .npy files that open as memory maps, and a small task.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from archsearch.data.at_rest import FIX, open_array, write_array, write_folder, write_record
from archsearch.data.notes import Note
from archsearch.data.ragged import Ragged, unpacked
from archsearch.data.task import Kind, Labels, Truth
from archsearch.domains.text.table import SPLITS, UNLABELLED, TableSplit, TextTable
from archsearch.domains.text.task import TextDataset, TextSplit, TextTask, id_type
from archsearch.errors import DataError

RECORD = "task.json"
G = TypeVar("G", bound=np.generic)
R = TypeVar("R", "TableRecord", "Record")


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableRecord(_Stored):
    """What task.json holds of texts; `texts` counts those of each split and those without labels."""

    format: Literal[1, 2] = 1  # 2 where some or all have no labels, which earlier versions cannot read
    domain: Literal["text_classification"] = "text_classification"
    holds: Literal["texts"] = "texts"
    sha256: str
    texts: dict[str, int]
    classes: int
    class_names: tuple[str, ...]
    kind: Kind
    prevalence: tuple[float, ...]
    pair: bool
    max_length: int
    notes: tuple[Note, ...] = ()
    truth: Truth = "labels"


class Record(_Stored):
    """What task.json holds of tokens; `texts` counts those of each split and those without labels."""

    format: Literal[1, 2] = 1  # as of texts
    domain: Literal["text_classification"] = "text_classification"
    holds: Literal["tokens"] = "tokens"
    sha256: str
    texts: dict[str, int]
    task: TextTask
    notes: tuple[Note, ...] = ()


def save_table(table: TextTable, folder: Path) -> None:
    """Write texts to `folder`, whole or not at all; the same texts there already are left alone.

    Raises Conflict where the folder holds anything else.
    """
    write_folder(folder, lambda new: _write_table(table, new), lambda there: _holds(there, TableRecord, table.sha256))


def open_table(folder: Path) -> TextTable:
    """The texts stored in `folder`, as read-only memory maps; raises DataError if they are not whole."""
    record = read_table_record(folder)
    splits = {name: _open_texts(folder, name, record) for name in _named(record.texts)}
    facts = record.classes, record.class_names, record.kind, record.prevalence
    train, selection, test = (splits[name] for name in SPLITS)
    apart, length = splits.get(UNLABELLED), record.max_length
    return TextTable(*facts, train, selection, test, record.sha256, length, record.notes, apart, record.truth)


def read_table_record(folder: Path) -> TableRecord:
    """The task.json of stored texts; raises DataError if there is none or it is damaged."""
    return _read(folder, TableRecord)


def save_dataset(dataset: TextDataset, folder: Path) -> None:
    """Write tokens to `folder`, whole or not at all; the same data set there already is left alone.

    Raises Conflict where the folder holds anything else.
    """
    write_folder(folder, lambda new: _write_dataset(dataset, new), lambda there: _holds(there, Record, dataset.sha256))


def open_dataset(folder: Path) -> TextDataset:
    """The data set stored in `folder`, its ids read-only memory maps; raises DataError if it is not whole."""
    record = read_record(folder)
    splits = {name: _open_tokens(folder, name, record) for name in _named(record.texts)}
    train, selection, test = (splits[name] for name in SPLITS)
    return TextDataset(record.task, train, selection, test, record.sha256, record.notes, splits.get(UNLABELLED))


def read_record(folder: Path) -> Record:
    """The task.json of stored tokens; raises DataError if there is none or it is damaged."""
    return _read(folder, Record)


def open_stored(folder: Path) -> TextTable | TextDataset:
    """What is stored in `folder`, texts or tokens; raises DataError if it is not whole."""
    try:
        read_table_record(folder)
    except DataError:
        return open_dataset(folder)
    return open_table(folder)


def _read(folder: Path, kind: type[R]) -> R:
    try:
        return kind.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"cannot read {folder / RECORD} ({type(error).__name__}); {FIX}", field=RECORD) from None


def _holds(folder: Path, kind: type[R], sha256: str) -> bool:
    try:
        return _read(folder, kind).sha256 == sha256
    except DataError:
        return False


def _named(texts: Mapping[str, int]) -> tuple[str, ...]:
    """The splits that are kept."""
    return (*SPLITS, UNLABELLED) if UNLABELLED in texts else SPLITS


def _splits(data: TextTable | TextDataset) -> dict[str, Any]:
    """Every split by its name, and what has no labels where there is anything."""
    found = {name: getattr(data, name) for name in (*SPLITS, UNLABELLED)}
    return {name: split for name, split in found.items() if split is not None}


def _format(data: TextTable | TextDataset) -> Literal[1, 2]:
    return 1 if data.unlabelled is None and data.task.truth == "labels" else 2


def _write_table(table: TextTable, folder: Path) -> None:
    folder.mkdir()
    counts = {}
    for name, split in _splits(table).items():
        _write_ragged(folder / f"{name}_text.npy", split.text)
        if split.pair is not None:
            _write_ragged(folder / f"{name}_pair.npy", split.pair)
        write_array(folder / f"{name}_y.npy", split.y_N)
        counts[name] = len(split)
    record = TableRecord(
        format=_format(table),
        sha256=table.sha256,
        texts=counts,
        classes=table.classes,
        class_names=table.class_names,
        kind=table.kind,
        prevalence=table.prevalence,
        pair=table.pair,
        max_length=table.max_length,
        notes=table.notes,
        truth=table.truth,
    )
    write_record(folder / RECORD, record.model_dump_json(indent=2))


def _write_dataset(dataset: TextDataset, folder: Path) -> None:
    folder.mkdir()
    counts = {}
    for name, split in _splits(dataset).items():
        kind = id_type(dataset.task.vocab_size)
        _write_ragged(folder / f"{name}_ids.npy", split.ids, kind)
        if split.segment_F is not None:
            segments = Ragged(split.segment_F, split.ids.start_N, split.ids.length_N)
            write_array(folder / f"{name}_segments.npy", segments.packed()[0])
        write_array(folder / f"{name}_y.npy", split.y_N)
        counts[name] = len(split)
    facts: dict[str, Any] = {"texts": counts, "task": dataset.task, "notes": dataset.notes}
    record = Record(format=_format(dataset), sha256=dataset.sha256, **facts)
    write_record(folder / RECORD, record.model_dump_json(indent=2))


def _open_texts(folder: Path, name: str, record: TableRecord) -> TableSplit:
    count = record.texts.get(name, -1)
    text = _open_ragged(folder / f"{name}_text.npy", count, np.uint8)
    pair = _open_ragged(folder / f"{name}_pair.npy", count, np.uint8) if record.pair else None
    return TableSplit(text, pair, _open_labels(folder, name, count, record.kind, record.classes))


def _open_tokens(folder: Path, name: str, record: Record) -> TextSplit:
    count, task = record.texts.get(name, -1), record.task
    ids = _open_ragged(folder / f"{name}_ids.npy", count, id_type(task.vocab_size))
    segment_F = open_array(folder / f"{name}_segments.npy", ids.flat_F.shape, np.uint8) if task.pair else None
    return TextSplit(ids, segment_F, _open_labels(folder, name, count, task.kind, task.classes), task.pad_id)


def _open_labels(folder: Path, name: str, count: int, kind: Kind, classes: int) -> Labels:
    path = folder / f"{name}_y.npy"
    if kind == "multilabel" and name != UNLABELLED:
        return open_array(path, (count, classes), np.uint8)
    return open_array(path, (count,), np.int64)


def _write_ragged(path: Path, rows: Ragged, dtype: npt.DTypeLike = np.uint8) -> None:
    flat_F, starts_N1 = rows.packed()
    write_array(path, flat_F.astype(dtype, copy=False))
    write_array(_starts(path), starts_N1)


def _open_ragged(path: Path, count: int, dtype: type[Any]) -> Ragged:
    starts_N1 = open_array(_starts(path), (count + 1,), np.int64)
    rows = unpacked(open_array(path, (int(starts_N1[-1]),), dtype), starts_N1)
    if starts_N1[0] != 0 or (rows.length_N < 0).any():
        raise DataError(f"{_starts(path)} holds no starts of rows; {FIX}", field=_starts(path).name)
    return rows


def _starts(path: Path) -> Path:
    return path.with_name(f"{path.stem}_starts.npy")
