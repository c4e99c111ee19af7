"""One image file from a stranger to pixels, with its size judged before anything is decoded."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from archsearch.data.limits import Limits
from archsearch.errors import DataError, TooLarge
from archsearch.request import Fit

if TYPE_CHECKING:
    from PIL import Image

# H W space, C channels

# The formats people keep data sets in; each further decoder would be one more to trust with a stranger's bytes.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
# What Pillow's decoders are known to raise on damaged files, besides its own OSError subclasses.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
              struct.error, zlib.error)  # fmt: skip
# A photo of more pixels waits for others of its kind: laid over white it takes a dozen bytes for each of them.
LARGE_PIXELS = 8_000_000
_large = threading.Lock()


def decode(
    name: str,
    data: bytes,
    size: tuple[int, int] | None,
    limits: Limits,
    fit: Fit = "crop",
    *,
    channels: int | None = None,
) -> npt.NDArray[np.uint8]:
    """The pixels, H×W×1 for a file stored in grey and H×W×3 otherwise, as photo.py reads them wherever they are used.

    `channels`, 1 or 3, is what they become instead, whatever the file holds.

    `size`, height and width in pixels, is what the image becomes in the way `fit` says; without it, it keeps its own.
    Raises DataError or TooLarge whose `field` is `name`, or `image_size` where setting that helps.
    """
    # Pillow is slow to import and only needed where images come as files.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            _check_header(name, opened, size, limits)
            if opened.width * opened.height > LARGE_PIXELS:
                with _large:
                    pixels = _pixels(opened, size, fit, channels)
            else:
                pixels = _pixels(opened, size, fit, channels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"has more than {limits.max_pixels:,} pixels; make it smaller", field=name) from None
    except UnidentifiedImageError:
        # Pillow's own message would name a BytesIO and its address.
        detail = f"is damaged or no image: not {', '.join(FORMATS[:-1])} or {FORMATS[-1]} inside; convert or remove it"
        raise DataError(detail, field=name) from None
    except UNREADABLE as error:
        raise DataError(f"is damaged or no image ({error}); replace or remove it", field=name) from None
    return pixels


def sides(data: bytes) -> tuple[int, int] | None:
    """Shorter and longer side of an image, in pixels, from its header alone; None where there is none to read."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            return min(opened.size), max(opened.size)
    except (*UNREADABLE, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def _pixels(opened: Image.Image, size: tuple[int, int] | None, fit: Fit, channels: int | None) -> npt.NDArray[np.uint8]:
    from archsearch.domains.images import photo

    image = photo.flat(opened)
    if size is not None:
        image = photo.fitted(image, *size, fit)
    if channels is not None:
        image = image.convert("L" if channels == 1 else "RGB")
    pixels = np.array(image, dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], -1)


def _check_header(name: str, image: Image.Image, size: tuple[int, int] | None, limits: Limits) -> None:
    if image.width * image.height > limits.max_pixels:
        raise TooLarge(f"has {image.width}×{image.height} pixels; make it smaller", field=name)
    if min(image.size) < limits.min_side:
        raise DataError(
            f"is {image.height}×{image.width} pixels; both sides need {limits.min_side} or more", field=name
        )
    if size is None and max(image.size) > limits.max_side:
        raise TooLarge(
            f"{name} is {image.height}×{image.width} pixels, both sides may have {limits.max_side} at most; "
            "set image_size to resize all images",
            field="image_size",
        )
    if image.mode in ("I", "F"):
        # Nothing says which of their values is white.
        raise DataError("holds pixels of 32 bits; save it with 8 or 16 bits a channel", field=name)
