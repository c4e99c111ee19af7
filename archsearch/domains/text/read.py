"""Texts and labels out of the tables a path holds, each row checked as it comes."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from archsearch.data.batches import require_room
from archsearch.data.labels import is_text
from archsearch.data.limits import Limits
from archsearch.data.ragged import Ragged, unpacked
from archsearch.domains.text.columns import Columns, Wanted, find_columns, find_texts
from archsearch.domains.text.labels import Raw, read_flags, read_label
from archsearch.domains.text.rows import LINE, Row, read_rows
from archsearch.domains.text.sources import LINES, SPLITS, UNLABELLED, Source, open_sources, table_format
from archsearch.errors import DataError, TooLarge

ORDER = ("train", "selection", "test", UNLABELLED)
# Rows after which memory is looked at, and bytes of one beside its texts: starts, a line and a label.
_ROWS, _A_ROW = 2**16, 48


@dataclass
class Column:
    """Texts one after another, as bytes of UTF-8."""

    flat: bytearray = field(default_factory=bytearray)
    starts: array[int] = field(default_factory=lambda: array("q", [0]))

    def add(self, text: str) -> None:
        self.flat += text.encode()
        self.starts.append(len(self.flat))

    def ragged(self) -> Ragged:
        return unpacked(np.frombuffer(self.flat, dtype=np.uint8), np.frombuffer(self.starts, dtype=np.int64))


@dataclass
class Part:
    """What was read of one split: texts, what stood in the label columns, and the line each row begins in."""

    file: str
    text: Column = field(default_factory=Column)
    pair: Column = field(default_factory=Column)
    labels: list[Raw] = field(default_factory=list)
    lines: array[int] = field(default_factory=lambda: array("q"))


@dataclass(frozen=True)
class Texts:
    """All that was read, by split, with the columns that were found."""

    parts: dict[str, Part]
    columns: Columns
    several: bool

    def called(self, split: str, row: int) -> str:
        """How a text is told of in a message."""
        part = self.parts[split]
        return f"line {part.lines[row]}" + f" of {part.file}" * self.several


def read_texts(path: Path, wanted: Wanted, limits: Limits) -> Texts:
    """The texts of a file, folder or zip; raises DataError or TooLarge naming file and line, or the request's field."""
    parts: dict[str, Part] = {}
    columns: Columns | None = None
    with open_sources(path, limits) as sources:
        for source in sources:
            found = _read(source, wanted, columns, parts, limits)
            columns = columns or found
    assert columns is not None  # there is a source, or there was an error
    if limits.to_learn_from and "train" not in parts:
        here = f"only {' and '.join(sorted(parts))}" if parts else "no row"
        raise DataError(f"there is {here} and no training text; give some", field=columns.split or "path")
    if not parts:
        raise DataError("holds no row below the columns' names", field="path")
    return Texts({split: parts[split] for split in ORDER if split in parts}, columns, len(sources) > 1)


def _read(source: Source, wanted: Wanted, before: Columns | None, parts: dict[str, Part], limits: Limits) -> Columns:
    with source.open() as stream:
        table = read_rows(source.name, stream, limits)
        columns = _columns(table.columns, wanted, source, before)
        if before is not None:
            _check_alike(before, columns, source)
        same: dict[str, str] = {}
        for row in table.rows:
            split = source.split or _split(row, columns, source.name)
            part = parts.setdefault(split, Part(source.name))
            _add(part, row, columns, source.name, same)
            if sum(len(one.lines) for one in parts.values()) > limits.max_examples:
                raise TooLarge(
                    f"has more than {limits.max_examples:,} rows, the most that are taken", field=source.name
                )
            if len(part.lines) % _ROWS == 0:
                _check_room(parts, source.name)
    return columns


def _check_room(parts: Mapping[str, Part], name: str) -> None:
    """Raises TooMuchMemory where what was read could not be sorted into splits any more, which copies it."""
    held = sum(len(part.text.flat) + len(part.pair.flat) + _A_ROW * len(part.lines) for part in parts.values())
    rows = sum(len(part.lines) for part in parts.values())
    fix = "give fewer or shorter texts, or a machine with more"
    require_room(held, f"sorting {rows:,} texts and those to come", field=name, fix=fix)


def _check_alike(before: Columns, columns: Columns, source: Source) -> None:
    """Raise DataError where a table is not as the first is."""
    apart = source.split == UNLABELLED
    if apart and not before.labels:
        raise DataError("no text in the other tables has a label, either; put all into one file", field=source.name)
    unlike = not apart and (_labels(columns) != _labels(before) or bool(columns.labels) != bool(before.labels))
    if (columns.pair is None) != (before.pair is None) or unlike:
        detail = f"columns {_told(before)} in the first table and {_told(columns)} here; make them equal"
        raise DataError(detail, field=source.name)


def _columns(names: tuple[str, ...], wanted: Wanted, source: Source, before: Columns | None) -> Columns:
    try:
        if source.split == UNLABELLED or table_format(source.name) == LINES:
            return _without_labels(names, wanted, source, before)
        found = find_columns(names, wanted, split_known=source.split is not None)
        if before is not None and before.labels and not found.labels:
            raise DataError(f"no column is called {before.labels[0]!r}", field="label_column")
        return found
    except DataError as error:
        if source.split is None:
            raise
        raise DataError(f"{error.detail} (in {source.name})", field=error.field) from None


def _without_labels(names: tuple[str, ...], wanted: Wanted, source: Source, before: Columns | None) -> Columns:
    """The columns of texts that nobody has labelled; raises DataError where there is one of labels."""
    if table_format(source.name) == LINES:
        return Columns(LINE, None, (), None)
    text, pair = find_texts(names, wanted)
    labels = [] if before is None else [name for name in before.labels if name in names]
    if labels:
        detail = f"has a column {labels[0]!r}, and its texts have no labels; remove it, or move the rows to train"
        raise DataError(detail, field=source.name)
    return Columns(text, pair, (), None)


def _labels(columns: Columns) -> tuple[str, ...]:
    return columns.labels if len(columns.labels) > 1 else ()


def _told(columns: Columns) -> str:
    return ", ".join(repr(name) for name in (columns.text, columns.pair, *columns.labels[:4]) if name is not None)


def _split(row: Row, columns: Columns, name: str) -> str:
    if columns.split is None:
        return "train"
    line, cells = row
    word = str(_cell(line, cells, columns.split, name)).strip()
    if word.lower() not in SPLITS:
        detail = f"line {line}: {columns.split} is {word!r:.60}; write train, validation or test"
        raise DataError(detail, field=name)
    return SPLITS[word.lower()]


def _add(part: Part, row: Row, columns: Columns, name: str, same: dict[str, str]) -> None:
    line, cells = row
    part.text.add(_text(line, cells, columns.text, name))
    if columns.pair is not None:
        part.pair.add(_text(line, cells, columns.pair, name))
    label = _label(line, cells, columns, name)
    # A million labels are a few words, each kept once.
    part.labels.append(same.setdefault(label, label) if isinstance(label, str) else label)
    part.lines.append(line)


def _label(line: int, cells: Mapping[str, Any], columns: Columns, name: str) -> Raw:
    """What stands in the columns of labels; None where there are none."""
    if not columns.labels:
        return None
    values = [_cell(line, cells, column, name) for column in columns.labels]
    try:
        return read_label(values[0]) if len(values) == 1 else read_flags(values, columns.labels)
    except ValueError as error:
        what = f"{columns.labels[0]} " if len(values) == 1 else ""
        raise DataError(f"line {line}: {what}{error}", field=name) from None


def _cell(line: int, cells: Mapping[str, Any], column: str, name: str) -> Any:
    try:
        return cells[column]
    except KeyError:
        raise DataError(f"line {line} has no {column!r}; add it", field=name) from None


def _text(line: int, cells: Mapping[str, Any], column: str, name: str) -> str:
    text = _cell(line, cells, column, name)
    if not isinstance(text, str):
        raise DataError(f"line {line}: {column} is {text!r:.60}, which is no text; put it in quotes", field=name)
    if not text or text.isspace():
        raise DataError(f"line {line}: {column} is empty; fill it in or remove the row", field=name)
    if "\0" in text or not is_text(text):
        what = "a NUL character" if "\0" in text else "half of a surrogate pair"
        raise DataError(f"line {line}: {column} holds {what}, which is no text; remove it", field=name)
    return text
