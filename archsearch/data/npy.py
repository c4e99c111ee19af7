"""Arrays out of an .npz, without unpickling and without believing what a header says before it is checked."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from archsearch.data.archive import BROKEN, damaged
from archsearch.errors import DataError

CHUNK_BYTES = 2**24
MAX_HEADER_BYTES = 2**14
# NumPy parses headers with Python's own tokenizer and parser, whose errors come through.
MALFORMED = (ValueError, TypeError, KeyError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)


@dataclass(frozen=True)
class Header:
    """What a member of an .npz declares about its array; `offset` is the header's own length in bytes."""

    key: str
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array, computed without overflow."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    """The header of one array, its size compared with the member's; raises DataError. Unpacks a few hundred bytes."""
    key = info.filename.removesuffix(".npy")
    try:
        with archive.open(info) as packed:
            # A header may claim four gigabytes, and NumPy would read them all before it refuses.
            stream = io.BytesIO(packed.read(MAX_HEADER_BYTES))
        version = npy_format.read_magic(stream)
        read = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
        offset = stream.tell()
    except BROKEN as error:
        raise damaged(key, error) from None
    except MALFORMED as error:
        raise DataError(
            f"is not a readable .npy array ({error!s:.100}); write the file with np.savez", field=key
        ) from None
    header = Header(key, info, shape, dtype, fortran, offset)
    _check_header(header)
    return header


def read_array(archive: zipfile.ZipFile, header: Header) -> npt.NDArray[Any]:
    """The array, read straight into memory of the size its checked header declares; raises DataError."""
    flat = np.empty(math.prod(header.shape), dtype=header.dtype)
    view = flat.view(np.uint8).data
    try:
        with archive.open(header.info) as stream:
            stream.read(header.offset)
            filled = 0
            while chunk := stream.read(min(CHUNK_BYTES, header.nbytes - filled)):
                view[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
            surplus = stream.read(1)
    except BROKEN as error:
        raise damaged(header.key, error) from None
    if filled != header.nbytes or surplus:
        raise DataError(f"ends after {filled:,} of {header.nbytes:,} bytes; write the file again", field=header.key)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def _check_header(header: Header) -> None:
    if header.dtype.hasobject:
        raise DataError(
            "holds Python objects, which would have to be unpickled and never are; "
            "save a plain array, e.g. np.stack(images) or labels.astype(np.int64)",
            field=header.key,
        )
    if (
        header.dtype.itemsize == 0
        or any(side < 0 for side in header.shape)
        or header.nbytes != header.info.file_size - header.offset
    ):
        held = header.info.file_size - header.offset
        raise DataError(
            f"declares an array of shape {header.shape}, {header.nbytes:,} bytes, over {held:,} bytes of data; "
            "the file is damaged or forged, write it again with np.savez",
            field=header.key,
        )
