"""Zip archives from strangers: every member is judged by name and size before a byte of it is unpacked.

Nothing is ever extracted to a disk; members are read into memory, one by one.
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

from archsearch.data.limits import Limits
from archsearch.errors import DataError, TooLarge

# Deflate cannot pack more than 1,032 bytes into one; a directory that claims it does is forged.
DEFLATE_RATIO = 1032
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError)
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Bytes of a directory for each member, names included, that are taken for honest.
_MEMBER_BYTES = 1024

Listener = Callable[[float], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have `listener` told, while an archive is read in this block, the share of its bytes that have been."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def open_zip(path: Path, limits: Limits, fix: str) -> Iterator[zipfile.ZipFile]:
    """The archive with all members checked; raises DataError or TooLarge. `fix` tells how to make a right one."""
    if not path.is_file():
        raise DataError(f"no file at {path}; check the path", field="path")
    with open_heard(path) as file:
        try:
            check_directory(file, limits)
            archive = zipfile.ZipFile(file)
        except BROKEN as error:
            detail = f"{path.name} is damaged, cut short or no zip at all ({error}); {fix}"
            raise DataError(detail, field="path") from None
        except (UnicodeDecodeError, ValueError) as error:
            raise DataError(f"{path.name} has a damaged directory ({error}); {fix}", field="path") from None
        with archive:
            check_members(archive.infolist(), limits)
            yield archive


def open_heard(path: Path) -> io.BufferedReader:
    """A file to read, of which whoever is `listening` hears how far it has been."""
    return io.BufferedReader(_Heard(path))


class _Heard(io.FileIO):
    """A file that tells how far it has been read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._listener, self._size, self._read = _listener.get(), max(1, path.stat().st_size), 0

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self._read += count or 0
        if self._listener is not None:  # of where the file is read nothing follows: its directory lies at the end
            self._listener(min(1.0, self._read / self._size))
        return count


def check_directory(file: IO[bytes], limits: Limits) -> None:
    """Raises TooLarge for too many members by the archive's last record, before an object is made of each."""
    record: Any = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if record is None:  # no zip, which zipfile says itself
        return
    _, _, _, _, declared, size_bytes, *_ = record
    # A forged count does not shorten the directory.
    if declared > limits.max_members or size_bytes > _MEMBER_BYTES * (limits.max_members + 1):
        count = declared if declared > limits.max_members else size_bytes // _MEMBER_BYTES
        raise TooLarge(f"has {count:,} members, at most {limits.max_members:,} are taken", field="path")


def check_members(members: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Raises DataError for a member that may not be read and TooLarge for too many members or bytes."""
    if len(members) > limits.max_members:
        raise TooLarge(f"has {len(members):,} members, at most {limits.max_members:,} are taken", field="path")
    seen: set[str] = set()
    for info in members:
        _check_name(info)
        _check_kind(info)
        if info.filename in seen:
            raise DataError("the archive holds this member twice; keep one of them", field=info.filename)
        seen.add(info.filename)
    total = sum(info.file_size for info in members)
    if total > limits.max_bytes:
        largest = max(members, key=lambda info: info.file_size)
        raise TooLarge(
            f"the archive unpacks to {total:,} bytes, {largest.file_size:,} of them in this member, at most "
            f"{limits.max_bytes:,} are taken; leave some out or make them smaller",
            field=largest.filename.removesuffix(".npy"),
        )


def check_ratio(info: zipfile.ZipInfo, limits: Limits) -> None:
    """Raises TooLarge for a member over 1 MiB that is packed more tightly than any honest image."""
    if info.file_size > 2**20 and info.file_size > limits.max_ratio * info.compress_size:
        raise TooLarge(
            f"{info.compress_size:,} bytes unpack to {info.file_size:,}, more than {limits.max_ratio} for one, "
            "as in a zip bomb; store this member uncompressed or leave it out",
            field=info.filename.removesuffix(".npy"),
        )


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """All bytes of a member, never more than it declares; raises DataError if it is damaged or lies about its size."""
    try:
        with archive.open(info) as stream:
            # zipfile stops at the declared size and then compares checksums, so a longer member ends in BadZipFile.
            data = stream.read(info.file_size)
            surplus = stream.read(1)
    except BROKEN as error:
        raise damaged(info.filename, error) from None
    if len(data) != info.file_size or surplus:
        raise DataError(
            f"declares {info.file_size:,} bytes, holds {len(data):,}; make the archive again", field=info.filename
        )
    return data


def damaged(member: str, error: Exception) -> DataError:
    """The error for a member whose bytes do not unpack."""
    return DataError(f"cannot be unpacked ({error}); the archive is damaged, make or upload it again", field=member)


def _check_name(info: zipfile.ZipInfo) -> None:
    # zipfile cuts `filename` at a NUL; the original shows what another unpacker would see.
    name = info.orig_filename
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        reason = "is an absolute path"
    elif ".." in parts:
        reason = "climbs out of the archive with '..'"
    elif "\\" in name or any(ord(letter) < 32 for letter in name):
        reason = "holds a backslash or a control character"
    elif "" in parts or "." in parts:
        reason = "holds an empty or '.' path segment"
    else:
        return
    raise DataError(f"the member's name {reason}; use plain relative names with '/'", field=ascii(name)[1:-1])


def _check_kind(info: zipfile.ZipInfo) -> None:
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "a special file"
        raise DataError(f"is {kind}, which is never followed; put the file itself there", field=info.filename)
    if info.flag_bits & 0x1:
        raise DataError("is encrypted; make the archive without a password", field=info.filename)
    if info.compress_type not in PACKINGS:
        raise DataError(f"uses zip method {info.compress_type}; only stored and deflated are read", field=info.filename)
    if info.file_size > DEFLATE_RATIO * info.compress_size + 1024:
        raise DataError(
            f"claims {info.file_size:,} bytes in {info.compress_size:,}, which no zip can hold: it is forged",
            field=info.filename,
        )
