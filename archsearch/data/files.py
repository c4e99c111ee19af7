"""The files of a folder or a zip, seen alike: relative names, and a way to read one into memory."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archsearch.data.archive import check_ratio, open_zip, read_member
from archsearch.data.labels import is_text
from archsearch.data.limits import Limits
from archsearch.errors import DataError, TooLarge

JUNK = {"__macosx", "thumbs.db", "desktop.ini"}
FIX = "zip one folder of images for each class, or give the folder itself"


@dataclass(frozen=True)
class Files:
    """Relative names with `/`, those of folders ending in it, and `read` for the bytes of one.

    Attributes:
        root: The folder, or the zip.
        members: Where in a zip they lie, by name; empty of a folder.
    """

    names: tuple[str, ...]
    read: Callable[[str], bytes]
    root: Path
    members: Mapping[str, zipfile.ZipInfo]


Odd = Callable[[DataError], None]


@contextmanager
def open_files(path: Path, limits: Limits, odd: Odd | None = None) -> Iterator[Files]:
    """The files of a folder or zip without hidden ones and system junk; raises DataError or TooLarge.

    Args:
        odd: Told of what in a folder cannot be read, by `field`, and is left out; without it that refuses the folder.
    """
    if path.is_dir():
        yield _folder_files(path.resolve(), limits, odd or _refused)
        return
    with open_zip(path, limits, FIX) as archive:
        members = {info.filename: info for info in archive.infolist() if not is_junk(info.filename)}

        def read(name: str) -> bytes:
            _check_size(name, members[name].file_size, limits)
            check_ratio(members[name], limits)
            return read_member(archive, members[name])

        yield Files(tuple(members), read, path.resolve(), members)


def is_junk(name: str) -> bool:
    """Whether a name is, or lies in, something a desktop leaves behind or hides."""
    return any(part.startswith(".") or part.lower() in JUNK for part in name.split("/"))


def _refused(error: DataError) -> None:
    raise error


def _folder_files(root: Path, limits: Limits, odd: Odd) -> Files:
    def read(name: str) -> bytes:
        _check_size(name, (root / name).stat().st_size, limits)
        try:
            return (root / name).read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", field=name) from None

    names: list[str] = []
    for name in _walk(root, "", odd):
        names.append(name)
        if len(names) > limits.max_members:
            raise TooLarge(f"holds more than {limits.max_members:,} files and folders; use fewer", field="path")
    return Files(tuple(names), read, root, {})


def _walk(root: Path, folder: str, odd: Odd) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
    except OSError as error:
        odd(DataError(f"cannot be listed ({error.strerror})", field=folder or "path"))
        return
    for entry in entries:
        if is_junk(entry.name):
            continue
        name = folder + entry.name
        try:
            is_folder = _is_folder(root, name, entry)
        except DataError as error:
            odd(error)
            continue
        if is_folder:
            yield f"{name}/"
            yield from _walk(root, f"{name}/", odd)
        else:
            yield name


def _is_folder(root: Path, name: str, entry: os.DirEntry[str]) -> bool:
    """Whether it is one, and no file; raises DataError where it is neither, or may not be read."""
    if not is_text(name):
        raise DataError("its name is no UTF-8; rename it", field=ascii(name)[1:-1])
    if entry.is_symlink():
        _check_link(root, name)
    if entry.is_dir():
        return True
    if not stat.S_ISREG(entry.stat().st_mode):
        # Opening a pipe would wait for ever.
        raise DataError("is a special file; remove it", field=name)
    return False


def _check_link(root: Path, name: str) -> None:
    # A link to a folder may point at one that holds it, so only files are followed, and only inside the root.
    target = (root / name).resolve()
    if not target.is_relative_to(root) or not target.is_file():
        raise DataError(
            f"is a symbolic link to {target}; links are followed to files inside the folder only: copy it there",
            field=name,
        )


def _check_size(name: str, size_bytes: int, limits: Limits) -> None:
    if size_bytes > limits.max_file_bytes:
        raise TooLarge(f"has {size_bytes:,} bytes, one file may have {limits.max_file_bytes:,}", field=name)
