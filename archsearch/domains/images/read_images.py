"""All the image files of a data set to pixels: several at a time, what is broken set aside, and never in silence."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from statistics import median
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from archsearch.data.batches import require_room
from archsearch.data.files import Files
from archsearch.data.limits import Limits
from archsearch.domains.images.images import decode, sides
from archsearch.errors import DataError, TooLarge
from archsearch.request import Fit

# H W space, C channels

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")
# What is wrong with which file.
Broken = Mapping[str, DataError | TooLarge]

# Files read and decoded before the next ones are begun; Pillow decodes without holding Python's lock.
_AT_ONCE, _MOST_THREADS = 256, 16
_TELL_EVERY_S = 0.2
# Files whose sizes a suggestion is made from, and the largest side that is suggested: more is slow and seldom better.
_LOOKED_AT, _SUGGESTED = 1_000, 224


def read_images(
    files: Files,
    names: Sequence[str],
    size: tuple[int, int] | None,
    limits: Limits,
    fit: Fit,
    listener: Callable[[int, int], None] | None,
) -> tuple[dict[str, Pixels], dict[str, DataError | TooLarge]]:
    """The pixels of the files by name, all of one height and width, and what is wrong with those that have none.

    Raises DataError or TooLarge, naming `image_size`, where sizes differ or all together are too much.
    """
    images: dict[str, Pixels] = {}
    broken: dict[str, DataError | TooLarge] = {}

    def pixels(name: str) -> Pixels:
        return decode(name, files.read(name), size, limits, fit)

    for name, found in in_parallel(pixels, names, listener):
        if isinstance(found, np.ndarray):
            if not images:
                _check_room(found.shape, len(names), limits)
            images[name] = found
            first = next(iter(images))
            check_same(name, found.shape, first, images[first].shape, files, names)
        elif found.field == "image_size":
            raise mixed(found, files, names)
        else:
            broken[name] = found
    return images, broken


def in_parallel(
    one: Callable[[str], T], names: Sequence[str], listener: Callable[[int, int], None] | None
) -> Iterator[tuple[str, T | DataError | TooLarge]]:
    """What `one` makes of every file, in order, or what is wrong with it."""

    def tried(name: str) -> T | DataError | TooLarge:
        try:
            return one(name)
        except (DataError, TooLarge) as error:
            return error

    told_at, done = 0.0, 0
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            for name, found in zip(some, pool.map(tried, some), strict=True):
                yield name, found
                done += 1
                if listener and (done == len(names) or time.monotonic() - told_at > _TELL_EVERY_S):
                    listener(done, len(names))
                    told_at = time.monotonic()


def check_same(
    name: str, shape: tuple[int, ...], first: str, of_first: tuple[int, ...], files: Files, names: Sequence[str]
) -> None:
    """Raises DataError unless an image is of the first one's height and width."""
    if shape[:2] != of_first[:2]:
        own, other = ("×".join(map(str, each[:2])) for each in (shape, of_first))
        raise mixed(DataError(f"{name} is {own} pixels, {first} {other}"), files, names)


def first_size(files: Files, names: Sequence[str], limits: Limits) -> tuple[int, int] | None:
    """Height and width of the first image that can be read; None where reading them all will say what is wrong."""
    for name in names:
        with suppress(DataError, TooLarge):
            height, width, _ = decode(name, files.read(name), None, limits).shape
            return height, width
    return None


def _check_room(shape: tuple[int, ...], images: int, limits: Limits) -> None:
    """Raises where so many images are too much; the first one tells what all will take."""
    height, width, _ = shape
    total = images * height * width * 3
    if total > limits.max_bytes:
        raise TooLarge(
            f"{images:,} images of {height}×{width} pixels take {total:,} bytes, at most "
            f"{limits.max_bytes:,} are taken; set a smaller image_size",
            field="image_size",
        )
    # As they are read, and once more as they are sorted into splits.
    what = f"{images:,} images of {height}×{width} pixels"
    require_room(2 * total, what, field="image_size", fix="set a smaller image_size")


def mixed(error: DataError | TooLarge, files: Files, names: Sequence[str]) -> DataError | TooLarge:
    """The same error, with a size that images of several sizes could all have."""
    step = max(1, len(names) // _LOOKED_AT)
    known = [pair for name in names[::step] if (pair := _sides(files, name)) is not None]
    short, long = (round(median(pair[which] for pair in known)) for which in (0, 1))
    side = max(8, min(_SUGGESTED, short) // 8 * 8)
    told = error.detail.partition("; set image_size")[0]
    return type(error)(
        f"{told}; set image_size to make all images alike: the median of their sides is {short} and {long} pixels, so "
        f"{side} is a good start (--image-size {side})",
        field="image_size",
    )


def _sides(files: Files, name: str) -> tuple[int, int] | None:
    try:
        return sides(files.read(name))
    except (DataError, TooLarge):
        return None
