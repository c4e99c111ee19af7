"""Rows out of a csv, tsv or jsonl stream, one at a time, each bounded in size and told by the line it begins in."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any

from archsearch.data.archive import BROKEN
from archsearch.data.limits import Limits
from archsearch.domains.text.sources import LINES, table_format
from archsearch.errors import DataError, TooLarge

_BOM = b"\xef\xbb\xbf"
# What Windows and Excel write where they do not write UTF-8.
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_OLD_ENCODING = "cp1252"
# Cells of a tsv, whose quotes mean nothing unless all of one are as a csv writes them.
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')

# What the only column of a file of lines is called.
LINE = "text"
Row = tuple[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Table:
    """The columns' names, and every row: the line it begins in, and its cells by column.

    Cells are text; in jsonl whatever JSON holds, and columns are those of the first row.
    """

    columns: tuple[str, ...]
    rows: Iterator[Row]


def read_rows(name: str, stream: IO[bytes], limits: Limits) -> Table:
    """The table in a stream; `name` tells its format, or else its first line does.

    Raises DataError or TooLarge, at once or while rows are taken, whose `field` is the name and whose detail the line.
    """
    lines = _Lines(name, stream, limits)
    first = next(lines, "")
    kind = table_format(name) or _guessed(first)
    again = _Again(first, lines)
    if kind == LINES:
        return Table((LINE,), _texts(again, lines))
    return _json_table(again, lines) if kind == "jsonl" else _cells_table(again, lines, first, kind)


def _texts(again: _Again, lines: _Lines) -> Iterator[Row]:
    """A text on every line that is not blank."""
    for text in again:
        line = again.following - 1
        lines.begin()
        if not text.isspace():
            yield line, {LINE: text.strip("\r\n")}


class _Lines:
    """Lines of a stream as text; `number` is that of the last one."""

    def __init__(self, name: str, stream: IO[bytes], limits: Limits) -> None:
        self.name, self.number, self._stream, self.limits = name, 0, stream, limits
        self._row_bytes = self._bytes = 0

    def __iter__(self) -> _Lines:
        return self

    def begin(self) -> None:
        """From here on lines are of another row."""
        self._row_bytes = 0

    def __next__(self) -> str:
        try:
            line = self._stream.readline(self.limits.max_row_bytes + 1)
        except BROKEN as error:
            detail = f"ends or is damaged after line {self.number} ({error}); make or upload the file again"
            raise DataError(detail, field=self.name) from None
        if not line:
            raise StopIteration
        self.number += 1
        self._count(line)
        return self._text(line)

    def _count(self, line: bytes) -> None:
        self._row_bytes += len(line)
        self._bytes += len(line)
        if self._row_bytes > self.limits.max_row_bytes:
            raise TooLarge(
                f"the row that ends in line {self.number} or later has more than {self.limits.max_row_bytes:,} bytes, "
                "the most a row may have; shorten it, or close the quote that was left open before it",
                field=self.name,
            )
        if self._bytes > self.limits.max_bytes:
            raise TooLarge(f"has more than {self.limits.max_bytes:,} bytes, the most that are taken", field=self.name)

    def _text(self, line: bytes) -> str:
        if self.number == 1:
            if line.startswith(_UTF_16):
                raise DataError("is UTF-16; save it as UTF-8 (in a spreadsheet: 'CSV UTF-8')", field=self.name)
            line = line.removeprefix(_BOM)
        if b"\0" in line:
            raise DataError(f"line {self.number} holds a NUL byte; the file is damaged or no text", field=self.name)
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise DataError(self._undecoded(line, error.start), field=self.name) from None

    def _undecoded(self, line: bytes, at: int) -> str:
        byte = line[at : at + 1]
        meant = byte.decode(_OLD_ENCODING, "replace")
        hint = "" if meant == "\N{REPLACEMENT CHARACTER}" else f", which would be {meant!r} in Windows-1252"
        return (
            f"line {self.number} is not UTF-8: byte {at + 1} of it is 0x{byte.hex()}{hint}; "
            "save the file as UTF-8 (in a spreadsheet: 'CSV UTF-8'; or iconv -f WINDOWS-1252 -t UTF-8)"
        )


class _Again:
    """Lines with the first of them, which was looked at, put back."""

    def __init__(self, first: str, lines: _Lines) -> None:
        self._lines, self._all = lines, chain([first] if first else [], lines)
        self._taken = 0

    def __iter__(self) -> _Again:
        return self

    def __next__(self) -> str:
        line = next(self._all)
        self._taken += 1
        return line

    @property
    def following(self) -> int:
        """The number of the next line."""
        return self._taken + 1


def _guessed(first: str) -> str:
    """The format of a file whose name tells nothing, by its first line."""
    if first.lstrip().startswith("{"):
        return "jsonl"
    return "tsv" if "\t" in first and "," not in first else "csv"


def _cells_table(again: _Again, lines: _Lines, first: str, kind: str) -> Table:
    rows = _cells(again, lines, first, kind)
    _, header = next(rows, (1, []))
    columns = tuple(cell.strip() for cell in header)
    if not any(columns):
        raise DataError("is empty; the first row has to name the columns: text,label", field=lines.name)
    counts = Counter(columns)
    twice = next((column for column in columns if column and counts[column] > 1), None)
    if twice is not None:
        raise DataError(f"has two columns {twice!r}; rename one", field=lines.name)
    return Table(columns, _by_column(rows, columns, lines.name, kind))


def _by_column(rows: Iterator[tuple[int, list[str]]], columns: tuple[str, ...], name: str, kind: str) -> Iterator[Row]:
    for line, cells in rows:
        if len(cells) != len(columns):
            fix = {"csv": "a text with commas has to be in quotes", "tsv": "a text can hold no tab and no line's end"}
            raise DataError(
                f"line {line} has {len(cells)} cells and the first {len(columns)} ({', '.join(columns)[:200]}); "
                f"{fix[kind]}",
                field=name,
            )
        yield line, dict(zip(columns, cells, strict=True))


def _cells(again: _Again, lines: _Lines, first: str, kind: str) -> Iterator[tuple[int, list[str]]]:
    """Cells of every row that is not blank, with the line each row begins in."""
    # The bound is the whole process's, and lower than that of rows here; it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), lines.limits.max_row_bytes))
    if kind == "tsv":
        reader = csv.reader(again, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(again, delimiter=_delimiter(first), strict=True)
    while True:
        line = again.following
        lines.begin()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            # Python's own words are of how it opened the file.
            what = "lines end as on old Macs" if "new-line character" in str(error) else error
            detail = f"the row that begins in line {line} is no {kind} ({what}); put it right, or save the file again"
            raise DataError(detail, field=lines.name) from None
        if cells is None:
            return
        if any(cell and not cell.isspace() for cell in cells):
            yield line, [_unquoted(cell) for cell in cells] if kind == "tsv" else cells


def _delimiter(first: str) -> str:
    """A comma, or what stands in its place where the header has none."""
    return next((mark for mark in ",;\t" if mark in first), ",")


def _unquoted(cell: str) -> str:
    quoted = _QUOTED.fullmatch(cell) if cell.startswith('"') else None
    return quoted[1].replace('""', '"') if quoted else cell


def _json_table(again: _Again, lines: _Lines) -> Table:
    rows = _objects(again, lines)
    first = next(rows, None)
    if first is None:
        raise DataError('is empty; each line is an object: {"text": "…", "label": "…"}', field=lines.name)
    return Table(tuple(first[1]), chain([first], rows))


def _objects(again: _Again, lines: _Lines) -> Iterator[Row]:
    while True:
        line = again.following
        lines.begin()
        text = next(again, None)
        if text is None:
            return
        if text.isspace():
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            detail = f"line {line} is no JSON ({error!s:.100}); each line is one object, not a part of one or of a list"
            raise DataError(detail, field=lines.name) from None
        if not isinstance(found, dict):
            raise DataError(f'line {line} is no object; write {{"text": "…", "label": "…"}}', field=lines.name)
        yield line, found
