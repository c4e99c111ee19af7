"""The tables a path holds: one file, or a folder or zip with one for each split."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, cast

from archsearch.data.archive import BROKEN, check_ratio, damaged, open_heard, open_zip
from archsearch.data.files import is_junk, open_files
from archsearch.data.limits import Limits
from archsearch.errors import DataError

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "selection",
    "valid": "selection",
    "validation": "selection",
    "dev": "selection",
    "selection": "selection",
    "test": "test",
    "testing": "test",
}
# What holds texts that nobody has labelled, beside the others or alone; as .txt it has a text on every line.
UNLABELLED, _CALLED, LINES = "unlabelled", {"unlabelled", "unlabeled"}, "txt"
SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
FIX = "give a csv, tsv or jsonl file, or a folder or zip with train.csv and, if you have them, validation.csv, test.csv"
# A handful of tables and what describes them: an archive of a hundred thousand members is something else.
MOST_FILES = 1000
# The first of an archive, or of an empty one; a csv may begin with PK.
_ZIPS, _GZIP = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b"

Opened = Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass(frozen=True)
class Source:
    """One table: how it is called, of which split all its rows are (None where rows tell), and how it is opened.

    Texts that nobody has labelled are one more split, `unlabelled`.
    """

    name: str
    split: str | None
    open: Opened


@contextmanager
def open_sources(path: Path, limits: Limits) -> Iterator[list[Source]]:
    """The tables, train first, each to be read once; raises DataError or TooLarge."""
    few = replace(limits, max_members=min(limits.max_members, MOST_FILES))
    if path.is_dir():
        with open_files(path, few) as files:
            root = path.resolve()
            yield _planned(files.names, lambda name: _unpacked(name, _open(root / name, name)))
    elif not path.is_file():
        raise DataError(f"no file at {path}; check the path", field="path")
    elif _is_zip(path):
        with open_zip(path, few, FIX) as archive:
            members = {info.filename: info for info in archive.infolist() if not is_junk(info.filename)}

            def opened(name: str) -> AbstractContextManager[IO[bytes]]:
                check_ratio(members[name], limits)
                return _unpacked(name, archive.open(members[name]))

            yield _planned(members, opened)
    else:
        yield [Source(path.name, None, lambda: _unpacked(path.name, _open(path, path.name)))]


def open_table(path: Path) -> AbstractContextManager[IO[bytes]]:
    """One file of rows or lines, unpacked where it is of gzip; raises DataError."""
    return _unpacked(path.name, _open(path, path.name))


def _open(path: Path, name: str) -> IO[bytes]:
    try:
        return open_heard(path)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", field=name) from None


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in _ZIPS
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror})", field="path") from None


@contextmanager
def _unpacked(name: str, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """The stream, or what is packed in it where it is of gzip."""
    with stream:
        try:
            head = stream.read(len(_GZIP))
            stream.seek(0)
        except BROKEN as error:
            raise damaged(name, error) from None
        if head != _GZIP:
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as inner:
            yield cast("IO[bytes]", inner)


def _planned(names: Iterable[str], opened: Callable[[str], AbstractContextManager[IO[bytes]]]) -> list[Source]:
    names = [name for name in names if not name.endswith("/")]
    tables = [name for name in names if table_format(name) is not None]
    if not tables:
        raise DataError(f"holds no csv, tsv or jsonl file{_instead(names)}; {FIX}", field="path")
    if stranger := next((name for name in tables if _folder(name) != _folder(tables[0])), None):
        raise DataError(f"lies in another folder than {tables[0]}; put all tables into one", field=stranger)
    found: dict[str, str] = {}
    for name in tables:
        stem = _stem(name)
        split = UNLABELLED if stem in _CALLED else SPLITS.get(stem, "train" if len(tables) == 1 else None)
        if split is None:
            detail = (
                "is none of train, validation, test and unlabelled by its name; rename it so, remove it, or give one "
                "file alone"
            )
            raise DataError(detail, field=name)
        if split in found:
            raise DataError(f"is of the {split} split as {found[split]} is; put them into one file", field=name)
        found[split] = name

    if found.keys() == {UNLABELLED}:  # all there is to learn from
        found = {"train": found[UNLABELLED]}

    def source(split: str) -> Source:
        # Of one file alone rows may tell their splits themselves.
        alone = split == "train" and not found.keys() - {"train", UNLABELLED}
        return Source(found[split], None if alone else split, lambda: opened(found[split]))

    return [source(split) for split in ("train", "selection", "test", UNLABELLED) if split in found]


def table_format(name: str) -> str | None:
    """csv, tsv or jsonl by a file's name, or txt of texts without labels; None where it says nothing."""
    path = PurePosixPath(name.lower().removesuffix(".gz"))
    return LINES if path.suffix == f".{LINES}" and path.stem in _CALLED else SUFFIXES.get(path.suffix)


def _stem(name: str) -> str:
    return PurePosixPath(name.lower().removesuffix(".gz")).stem


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _instead(names: list[str]) -> str:
    others = sorted({suffix for name in names if (suffix := PurePosixPath(name.lower()).suffix)})
    hint = ", and parquet and arrow are not read: write them with to_csv or to_json(lines=True)"
    return f", only {', '.join(others[:5])}" * bool(others) + hint * bool({".parquet", ".arrow"} & set(others))
