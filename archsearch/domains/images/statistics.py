"""What is told of pixels as a whole: their mean and deviation, of sums that are whole numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

# N images, H W space, C channels

CHUNK_BYTES = 2**22
# One grey level: a constant channel normalises to zeros rather than to infinities.
MIN_STD = 1 / 255

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def channel_statistics(x_NHWC: npt.NDArray[np.uint8]) -> Statistics:
    """Mean and standard deviation of every channel, of pixels in 0-1; a deviation is at least 1/255.

    The sums are whole numbers, so the result does not depend on how the images are cut into chunks.
    """
    channels = x_NHWC.shape[-1]
    sums, squares = np.zeros((2, channels), dtype=np.uint64)
    for chunk_NHWC in chunks(x_NHWC):
        wide_NHWC = chunk_NHWC.astype(np.uint32)
        sums += wide_NHWC.sum(axis=(0, 1, 2), dtype=np.uint64)
        squares += np.square(wide_NHWC).sum(axis=(0, 1, 2), dtype=np.uint64)
    return of_sums(np.stack([sums, squares], axis=1), x_NHWC.size // channels)


def of_sums(sums_C2: npt.NDArray[np.uint64], count: int) -> Statistics:
    """The same of every channel's sum of values and of their squares, in 0-255; `count` is of its pixels."""
    moments = [(int(s), count * int(q) - int(s) ** 2) for s, q in sums_C2]
    mean = tuple(s / count / 255 for s, _ in moments)
    std = tuple(max(math.sqrt(spread) / count / 255, MIN_STD) for _, spread in moments)
    return mean, std


def chunks(x_NHWC: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Consecutive images, about 4 MiB at a time."""
    step = max(1, CHUNK_BYTES // max(1, x_NHWC[:1].nbytes))
    for start in range(0, len(x_NHWC), step):
        yield x_NHWC[start : start + step]
