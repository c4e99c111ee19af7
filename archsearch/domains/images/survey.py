"""One look at every image file of a data set too large for memory: what is broken, and what is known of the others.

Each file is read, hashed and decoded once, many at a time, and its pixels are let go.
"""

# N files, C channels, D bytes of a digest

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from archsearch.data.at_rest import open_array, write_array
from archsearch.data.files import Files
from archsearch.data.limits import Limits
from archsearch.domains.images.images import decode
from archsearch.domains.images.read_images import check_same, in_parallel, mixed
from archsearch.errors import DataError, TooLarge
from archsearch.request import Fit

if TYPE_CHECKING:
    from archsearch.data.task import Rows

DIGEST = 16  # bytes of a digest that are kept
_LEVELS = np.arange(256, dtype=np.int64)
ARRAYS = ("digest_ND", "content_ND", "sums_NC2", "grey_N")


@dataclass(frozen=True)
class Survey:
    """What is known of every file, a row each; what could not be read is zeros.

    Attributes:
        height, width: Of all of them, as they become (pixels).
        digest_ND: Of each file's bytes.
        content_ND: Of its pixels in three channels, by which copies are told.
        sums_NC2: Of its pixels in three channels, and of their squares.
        grey_N: Whether it is stored in grey.
    """

    height: int
    width: int
    digest_ND: npt.NDArray[np.uint8]
    content_ND: npt.NDArray[np.uint8]
    sums_NC2: npt.NDArray[np.uint64]
    grey_N: npt.NDArray[np.bool_]

    def take(self, rows: Rows) -> Survey:
        """What is known of some of the files."""
        return Survey(self.height, self.width, *(getattr(self, name)[rows] for name in ARRAYS))

    def save(self, folder: Path) -> None:
        for name in ARRAYS:
            write_array(folder / f"{name}.npy", getattr(self, name))


def open_survey(folder: Path, files: int, height: int, width: int) -> Survey:
    """What `Survey.save` wrote, memory-mapped; raises DataError where it is not whole."""
    digest_ND, content_ND = (open_array(folder / f"{name}.npy", (files, DIGEST), np.uint8) for name in ARRAYS[:2])
    sums_NC2 = open_array(folder / f"{ARRAYS[2]}.npy", (files, 3, 2), np.uint64)
    return Survey(height, width, digest_ND, content_ND, sums_NC2, open_array(folder / "grey_N.npy", (files,), np.bool_))


@dataclass(frozen=True)
class _Seen:
    """What one file told."""

    shape: tuple[int, ...]
    digest: bytes
    content: bytes
    sums_C2: npt.NDArray[np.int64]


def survey(
    files: Files,
    names: Sequence[str],
    size: tuple[int, int] | None,
    limits: Limits,
    fit: Fit,
    listener: Callable[[int, int], None] | None,
) -> tuple[Survey, dict[str, DataError | TooLarge]]:
    """Look at every file by its name; returns what was found and what is wrong with those that have no pixels.

    Raises DataError or TooLarge, naming `image_size`, where sizes differ.
    """

    def look(name: str) -> _Seen:
        data = files.read(name)
        return _seen(data, decode(name, data, size, limits, fit))

    count, broken = len(names), dict[str, DataError | TooLarge]()
    digest_ND, content_ND = np.zeros((2, count, DIGEST), np.uint8)
    sums_NC2, grey_N = np.zeros((count, 3, 2), np.uint64), np.zeros(count, np.bool_)
    first: tuple[str, tuple[int, ...]] | None = None
    for row, (name, found) in enumerate(in_parallel(look, names, listener)):
        if not isinstance(found, _Seen):
            if found.field == "image_size":
                raise mixed(found, files, names)
            broken[name] = found
            continue
        first = first or (name, found.shape)
        check_same(name, found.shape, *first, files, names)
        digest_ND[row], content_ND[row] = (np.frombuffer(each, np.uint8) for each in (found.digest, found.content))
        sums_NC2[row], grey_N[row] = found.sums_C2, found.shape[2] == 1
    height, width, _ = first[1] if first else (*(size or (0, 0)), 0)
    return Survey(height, width, digest_ND, content_ND, sums_NC2, grey_N), broken


def _seen(data: bytes, pixels_HWC: npt.NDArray[np.uint8]) -> _Seen:
    from PIL import Image

    grey = pixels_HWC.shape[2] == 1
    # Pillow counts levels ten times as fast as NumPy multiplies them.
    counted = Image.fromarray(pixels_HWC[:, :, 0] if grey else pixels_HWC).histogram()
    levels_CL = np.array(counted, dtype=np.int64).reshape(-1, 256)
    sums_C2 = np.stack([levels_CL @ _LEVELS, levels_CL @ _LEVELS**2], axis=1)
    content = np.ascontiguousarray(np.broadcast_to(pixels_HWC, (*pixels_HWC.shape[:2], 3)))
    digest, told = (hashlib.sha256(each).digest()[:DIGEST] for each in (data, content.data))
    return _Seen(pixels_HWC.shape, digest, told, np.broadcast_to(sums_C2, (3, 2)))


def errors_as_json(broken: Mapping[str, DataError | TooLarge]) -> list[list[str]]:
    """What is wrong with which file, as it is kept; `read_errors` reads it."""
    return [[name, type(error).__name__, error.detail] for name, error in broken.items()]


def read_errors(kept: Sequence[Sequence[str]]) -> dict[str, DataError | TooLarge]:
    kinds = {kind.__name__: kind for kind in (DataError, TooLarge)}
    return {name: kinds[kind](detail, field=name) for name, kind, detail in kept}
