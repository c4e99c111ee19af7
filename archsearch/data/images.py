"""One image file to pixels, with its size judged before anything is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from archsearch.data.limits import Limits
from archsearch.errors import DataError, TooLarge

if TYPE_CHECKING:
    from PIL import Image

# H W space, C channels

# The formats people keep data sets in; each further decoder would be one more to trust with a stranger's bytes.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
GREY = {"1", "L", "LA", "La"}
# What Pillow's decoders are known to raise on damaged files, besides its own OSError subclasses.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError,
              struct.error, zlib.error)  # fmt: skip


def decode(name: str, data: bytes, image_size: int | None, limits: Limits) -> npt.NDArray[np.uint8]:
    """The pixels, H×W×1 for a file stored in grey and H×W×3 otherwise; transparency becomes white.

    The EXIF orientation is applied. `image_size`, in pixels, resizes the short side and crops the centre.
    Only the first frame of several counts. Raises DataError or TooLarge whose `field` is `name`,
    or `image_size` where setting that helps.
    """
    # Pillow is slow to import and only needed where images come as files.
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            _check_header(name, opened, image_size, limits)
            image = _flatten(ImageOps.exif_transpose(opened))
            if image_size is not None:
                image = _fit(image, image_size)
            pixels = np.array(image, dtype=np.uint8)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"has more than {limits.max_pixels:,} pixels; make it smaller", field=name) from None
    except UnidentifiedImageError:
        # Pillow's own message would name a BytesIO and its address.
        detail = f"is damaged or no image: not {', '.join(FORMATS[:-1])} or {FORMATS[-1]} inside; convert or remove it"
        raise DataError(detail, field=name) from None
    except UNREADABLE as error:
        raise DataError(f"is damaged or no image ({error}); replace or remove it", field=name) from None
    return pixels.reshape(*pixels.shape[:2], -1)


def _check_header(name: str, image: Image.Image, image_size: int | None, limits: Limits) -> None:
    if image.width * image.height > limits.max_pixels:
        raise TooLarge(f"has {image.width}×{image.height} pixels; make it smaller", field=name)
    if min(image.size) < limits.min_side:
        raise DataError(
            f"is {image.height}×{image.width} pixels; both sides need {limits.min_side} or more", field=name
        )
    if image_size is None and max(image.size) > limits.max_side:
        raise TooLarge(
            f"{name} is {image.height}×{image.width} pixels, both sides may have {limits.max_side} at most; "
            "set image_size to resize all images",
            field="image_size",
        )
    if image.mode.startswith(("I", "F")):
        # Pillow would clip instead of scaling them.
        raise DataError("holds pixels of more than 8 bits; save it with 8 bits a channel", field=name)


def _flatten(image: Image.Image) -> Image.Image:
    """Grey or RGB, with anything transparent laid over white, as a viewer shows it."""
    from PIL import Image

    grey = image.mode in GREY
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        image = Image.alpha_composite(white, over)
    return image.convert("L" if grey else "RGB")


def _fit(image: Image.Image, size: int) -> Image.Image:
    """The centre square, resized with antialiasing; an image of that size already stays as it is."""
    from PIL import Image

    if image.size == (size, size):
        return image
    # Cutting first gives the same picture and never makes a long strip longer.
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
