"""Image files as they lie on a disk, each decoded when it is asked for, and held against what it was when it was read.

Whoever decodes opens the file himself, so any number of threads and processes may.
"""

# N files, H W space, C channels

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from archsearch.data.files import Files
from archsearch.data.limits import Limits
from archsearch.data.ragged import Ragged, joined
from archsearch.domains.images.images import decode
from archsearch.domains.images.survey import DIGEST, Survey
from archsearch.errors import DataError
from archsearch.request import Fit

_LOCAL_HEADER_BYTES = 30


class Source(Protocol):
    """Where the bytes of numbered files lie."""

    @property
    def names(self) -> Ragged:
        """What they are called, in UTF-8: for messages."""

    def read(self, row: int) -> bytes:
        """The bytes of one; raises OSError or ValueError where they are not there any more."""


@dataclass(frozen=True)
class Folder:
    """Files of a folder, each by its name."""

    root: Path
    names: Ragged

    def read(self, row: int) -> bytes:
        return (self.root / self.names[row].tobytes().decode()).read_bytes()


@dataclass(frozen=True)
class Parts:
    """Parts of one file, as members of a zip are, which is not opened as one: a directory of a million takes its time.

    Attributes:
        start_N, length_N: Where each lies in the file (bytes), and how long it is there.
        plain_N: How many bytes it unpacks to; as many as it has where it is not packed.
        packed_N: Whether it is deflated.
    """

    path: Path
    names: Ragged
    start_N: npt.NDArray[np.int64]
    length_N: npt.NDArray[np.int64]
    plain_N: npt.NDArray[np.int64]
    packed_N: npt.NDArray[np.bool_]

    def read(self, row: int) -> bytes:
        with self.path.open("rb", buffering=0) as file:
            found = os.pread(file.fileno(), int(self.length_N[row]), int(self.start_N[row]))
        if not self.packed_N[row]:
            return found
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(found, int(self.plain_N[row]))
        except zlib.error as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True)
class Encoded:
    """All the image files of a data set, and what they become.

    Attributes:
        survey: What was found when each was read, a row a file; its size is what all become.
        channels: 1 where all are grey, else 3.
    """

    source: Source
    survey: Survey
    channels: int
    fit: Fit

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.survey.height, self.survey.width, self.channels

    def name(self, row: int) -> str:
        return self.source.names[row].tobytes().decode()

    def bytes(self, row: int) -> bytes:
        """The bytes of one file; raises DataError, naming it, where they are not those that were read."""
        try:
            found = self.source.read(row)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "damaged"
            raise DataError(f"cannot be read any more ({reason}); put it back", field=self.name(row)) from None
        if hashlib.sha256(found).digest()[:DIGEST] != self.survey.digest_ND[row].tobytes():
            detail = "has changed since the data were read; put it back as it was, or begin anew"
            raise DataError(detail, field=self.name(row))
        return found

    def decode(self, row: int) -> npt.NDArray[np.uint8]:
        """The pixels of one, H×W×1 or H×W×3, as reading them all into memory would have given them."""
        # What any file may be was judged when it was read, and it is the same one.
        return decode(self.name(row), self.bytes(row), (self.survey.height, self.survey.width), Limits(), self.fit)


def source_of(files: Files, names: list[str]) -> Source:
    """Where some of the files of a folder or zip lie; a zip's members by where their bytes begin."""
    listed = named(names)
    if not files.members:
        return Folder(files.root, listed)
    members = [files.members[name] for name in names]
    with files.root.open("rb", buffering=0) as file:
        starts = [_start(file.fileno(), member.header_offset) for member in members]
    return Parts(
        files.root,
        listed,
        np.array(starts, dtype=np.int64),
        np.array([member.compress_size for member in members], dtype=np.int64),
        np.array([member.file_size for member in members], dtype=np.int64),
        np.array([member.compress_type != 0 for member in members], dtype=np.bool_),
    )


def named(names: list[str]) -> Ragged:
    """Names as bytes one after another: a million strings would be copied into every process that decodes."""
    return joined((np.frombuffer(name.encode(), dtype=np.uint8) for name in names), np.uint8)


def _start(file: int, header: int) -> int:
    """Where a member's bytes begin: behind its own header, whose extra field need not be the directory's."""
    found = os.pread(file, _LOCAL_HEADER_BYTES, header)
    name, extra = (int.from_bytes(found[at : at + 2], "little") for at in (26, 28))
    return header + _LOCAL_HEADER_BYTES + name + extra
