"""All the image files of a data set to pixels: several at a time, what is broken set aside, and never in silence."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np
import numpy.typing as npt

from archsearch.data.files import Files
from archsearch.data.limits import Limits
from archsearch.domains.images.images import decode, sides
from archsearch.errors import DataError, TooLarge
from archsearch.request import Fit

# H W space, C channels

Pixels = npt.NDArray[np.uint8]
# What is wrong with which file.
Broken = Mapping[str, DataError | TooLarge]

# Files read and decoded before the next ones are begun; Pillow decodes without holding Python's lock.
_AT_ONCE, _MOST_THREADS = 256, 8
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
    told_at = 0.0
    for done, (name, found) in enumerate(_decoded(files, names, size, limits, fit), 1):
        if isinstance(found, np.ndarray):
            images[name] = found
            _check(name, images, files, names, limits)
        elif found.field == "image_size":
            raise _mixed(found, files, names)
        else:
            broken[name] = found
        if listener and (done == len(names) or time.monotonic() - told_at > _TELL_EVERY_S):
            listener(done, len(names))
            told_at = time.monotonic()
    return images, broken


def _decoded(
    files: Files, names: Sequence[str], size: tuple[int, int] | None, limits: Limits, fit: Fit
) -> Iterator[tuple[str, Pixels | DataError | TooLarge]]:
    """Every file in order, as pixels or as what is wrong with it."""

    def one(name: str) -> Pixels | DataError | TooLarge:
        try:
            return decode(name, files.read(name), size, limits, fit)
        except (DataError, TooLarge) as error:
            return error

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            yield from zip(some, pool.map(one, some), strict=True)


def _check(name: str, images: Mapping[str, Pixels], files: Files, names: Sequence[str], limits: Limits) -> None:
    """Raises unless an image is of the first one's size, and all images of that size are not too much."""
    first = next(iter(images))
    height, width, _ = images[first].shape
    if images[name].shape[:2] != (height, width):
        own = "×".join(map(str, images[name].shape[:2]))
        raise _mixed(DataError(f"{name} is {own} pixels, {first} {height}×{width}"), files, names)
    # The first image tells what all will take.
    if name == first and (total := len(names) * height * width * 3) > limits.max_bytes:
        raise TooLarge(
            f"{len(names):,} images of {height}×{width} pixels take {total:,} bytes, at most "
            f"{limits.max_bytes:,} are taken; set a smaller image_size",
            field="image_size",
        )


def _mixed(error: DataError | TooLarge, files: Files, names: Sequence[str]) -> DataError | TooLarge:
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
