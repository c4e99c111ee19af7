"""What counts as an image array: its layout, its range, and how floats become bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.data.limits import Limits
from archsearch.errors import DataError, TooLarge

# N images, H W space, C channels

CHANNELS = range(1, 5)
CHUNK_VALUES = 2**22


def check_layout(key: str, shape: tuple[int, ...], dtype: np.dtype[Any], limits: Limits) -> None:
    """Raises DataError unless shape and type are those of images, N×H×W or N×H×W×C; needs no pixel."""
    if len(shape) not in (3, 4):
        raise DataError(f"has shape {shape}; images are N×H×W or N×H×W×C: reshape the array", field=key)
    if shape[0] == 0:
        raise DataError("holds no image; add some or leave the key out", field=key)
    if len(shape) == 4 and shape[3] not in CHANNELS:
        _refuse_channels(key, shape)
    check_sides(key, shape[1], shape[2], limits)
    if dtype != np.uint8 and dtype.kind != "f":
        raise DataError(
            f"has type {dtype}; pixels are uint8 in 0-255 or floats in 0-1: for whole numbers in 0-255 save "
            f"{key}.astype(np.uint8)",
            field=key,
        )


def check_sides(field: str, height: int, width: int, limits: Limits) -> None:
    """Raises DataError or TooLarge unless both sides, in pixels, are within the limits."""
    if min(height, width) < limits.min_side:
        raise DataError(f"is {height}×{width} pixels; both sides need {limits.min_side} or more", field=field)
    if max(height, width) > limits.max_side:
        raise TooLarge(
            f"is {height}×{width} pixels; both sides may have {limits.max_side} at most: resize the images", field=field
        )


def to_pixels(key: str, x: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The images as uint8 N×H×W×C; floats are refused outside 0-1 and rounded to the nearest of 256 levels."""
    x_NHWC = x[..., np.newaxis] if x.ndim == 3 else x
    if x_NHWC.dtype == np.uint8:
        return np.ascontiguousarray(x_NHWC)
    bytes_NHWC = np.empty(x_NHWC.shape, dtype=np.uint8)
    # A chunk at a time: a second float copy of a large set may not fit into memory.
    step = max(1, CHUNK_VALUES // max(1, x_NHWC[:1].size))
    for start in range(0, len(x_NHWC), step):
        chunk_NHWC = x_NHWC[start : start + step]
        _check_floats(key, chunk_NHWC, start)
        bytes_NHWC[start : start + step] = np.rint(chunk_NHWC.astype(np.float64) * 255)
    return bytes_NHWC


def _check_floats(key: str, x_NHWC: npt.NDArray[np.floating[Any]], start: int) -> None:
    bad_N = ~np.isfinite(x_NHWC).all(axis=(1, 2, 3))
    if bad_N.any():
        row = int(bad_N.argmax())
        raise DataError(f"image {start + row} holds NaN or infinity; repair or remove it", field=key)
    bad_N = (x_NHWC.min(axis=(1, 2, 3)) < 0) | (x_NHWC.max(axis=(1, 2, 3)) > 1)
    if bad_N.any():
        row = int(bad_N.argmax())
        low, high = float(x_NHWC[row].min()), float(x_NHWC[row].max())
        raise DataError(
            f"image {start + row} holds float pixels from {low:.4g} to {high:.4g}; floats have to lie in 0-1: "
            "divide pixels of 0-255 by 255 or save them as uint8, and undo any mean/std normalisation",
            field=key,
        )


def _refuse_channels(key: str, shape: tuple[int, ...]) -> None:
    if shape[1] in CHANNELS:
        fix = f"this looks like N×C×H×W: save {key}.transpose(0, 2, 3, 1)"
    else:
        fix = "images are N×H×W×C with 1 to 4 channels"
    raise DataError(f"has shape {shape}, so {shape[3]} channels; {fix}", field=key)
