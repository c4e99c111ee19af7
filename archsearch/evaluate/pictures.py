"""The confusion matrix and the reliability diagram as PNG, drawn with Pillow alone, which is always installed."""

# K classes, M bins

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from archsearch.evaluate.metrics import Bin

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

# Pixels: the cells shrink with the number of classes, down to what an eye still tells apart.
_CELLS = ((12, 44), (25, 30), (50, 18), (100, 14), (250, 5), (1_000, 2))
_SMALLEST_CELL = 1
_NAME_LETTERS = 18
_INK, _PALE, _RIGHT, _WRONG = (30, 30, 30), (222, 222, 222), (31, 90, 160), (190, 55, 40)
_MARGIN = 16


def draw_confusion(
    confusion_KK: npt.NDArray[np.integer[Any]], names: Sequence[str], path: Path, *, truth: str = "label"
) -> None:
    """What is right (`truth`) downwards, answers to the right; each row is shaded by its share, with counts where they
    fit.

    Right answers are blue and wrong ones red, so that the diagonal does not hide what lies beside it.
    """
    from PIL import Image, ImageDraw

    classes = len(confusion_KK)
    cell = next((size for most, size in _CELLS if classes <= most), _SMALLEST_CELL)
    step = 1 if cell >= 14 else max(1, round(20 / cell))  # where names do not fit, every so many numbers
    font = _font(11 if cell < 18 else 13)
    labels = [_short(name, k) if step == 1 else str(k) for k, name in enumerate(names)]
    label_px = round(max(font.getlength(label) for label in labels)) + 8
    line = 22
    left, top = _MARGIN + line + label_px, _MARGIN + 2 * line + label_px
    side = cell * classes
    image = Image.new("RGB", (left + side + _MARGIN, top + side + _MARGIN), "white")
    draw = ImageDraw.Draw(image)
    # One pixel a cell, then enlarged: drawing a million rectangles would take a minute.
    image.paste(Image.fromarray(_shades(confusion_KK)).resize((side, side), Image.Resampling.NEAREST), (left, top))
    draw.rectangle((left - 1, top - 1, left + side, top + side), outline=_INK)
    draw.text((left, _MARGIN - 4), "answer", _INK, _font(13))
    _upright(image, truth, (_MARGIN - 4, top), _font(13))
    for k in range(0, classes, step):
        middle = cell * k + cell // 2
        draw.text((left - 5, top + middle), labels[k], _INK, font, anchor="rm")
        _upright(image, labels[k], (left + middle, top - 5), font, anchor="bottom")
    if cell >= 30:
        _counts(draw, confusion_KK, left, top, cell)
    image.save(path, optimize=True)


def draw_calibration(bins: Sequence[Bin], ece: float, path: Path, *, unit: str = "images") -> None:
    """Accuracy against confidence in equal bins, and how many images lie in each (Guo et al. 2017, figure 1).

    Args:
        unit: What the bins count: images, or answers where an image gets many.
    """
    from PIL import Image, ImageDraw

    left, top, side, low = 64, 40, 360, 110
    image = Image.new("RGB", (left + side + 24, top + side + low + 84), "white")
    draw = ImageDraw.Draw(image)
    font, floor = _font(12), top + side
    counted = sum(bin.images for bin in bins)
    draw.text((left, 12), f"expected calibration error {ece:.2f} %, {counted:,} {unit}", _INK, _font(14))
    for percent in range(0, 101, 20):
        y = floor - side * percent // 100
        draw.line((left, y, left + side, y), _PALE)
        draw.text((left - 6, y), f"{percent} %", _INK, font, anchor="rm")
    most = max(bin.images for bin in bins)
    below = floor + 16 + low
    for bin in bins:
        if not bin.images:
            continue
        x0, x1 = left + round(side * bin.low) + 1, left + round(side * bin.high) - 1
        draw.rectangle((x0, floor - side * bin.accuracy / 100, x1, floor), fill=_RIGHT)
        # From the accuracy to the mean confidence: what the network promised and did not keep, or kept unpromised.
        gap = sorted((floor - side * bin.accuracy / 100, floor - side * bin.confidence / 100))
        draw.rectangle((x0, gap[0], x1, gap[1]), outline=_WRONG, width=2)
        draw.rectangle((x0, below - low * bin.images / most, x1, below), fill=_INK)
    draw.line((left, floor, left + side, top), _INK, 2)
    draw.rectangle((left, top, left + side, floor), outline=_INK)
    draw.line((left, below, left + side, below), _INK)
    draw.text((left - 6, floor + 16), f"{most:,}", _INK, font, anchor="rt")
    for percent in range(0, 101, 20):
        draw.text((left + side * percent // 100, below + 6), f"{percent} %", _INK, font, anchor="mt")
    draw.text((left + side // 2, below + 28), "confidence", _INK, font, anchor="mt")
    _upright(image, unit, (6, floor + 40), font)
    _upright(image, "accuracy (blue), gap to the confidence (red)", (6, top), font)
    image.save(path, optimize=True)


def _shades(confusion_KK: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
    """A colour for each cell: white for none of its row, full blue or red for all of it."""
    # Small numbers, a colour at a time: the matrix of a thousand classes has a million cells.
    share_KK = confusion_KK.astype(np.float32) / np.maximum(confusion_KK.sum(1, keepdims=True), 1).astype(np.float32)
    # A square root lets single mistakes be seen: they are what the picture is for.
    weight_KK = np.sqrt(share_KK)
    shades_KK3 = np.empty((*weight_KK.shape, 3), np.uint8)
    for colour, (right, wrong) in enumerate(zip(_RIGHT, _WRONG, strict=True)):
        shades_KK3[..., colour] = np.rint(255 - weight_KK * np.float32(255 - wrong))
        np.fill_diagonal(shades_KK3[..., colour], np.rint(255 - weight_KK.diagonal() * np.float32(255 - right)))
    return shades_KK3


def _counts(
    draw: ImageDraw.ImageDraw, confusion_KK: npt.NDArray[np.integer[Any]], left: int, top: int, cell: int
) -> None:
    share_KK = confusion_KK / np.maximum(confusion_KK.sum(1, keepdims=True), 1)
    for row, column in zip(*np.nonzero(confusion_KK), strict=True):
        ink = "white" if share_KK[row, column] > 0.35 else _INK
        at = (left + cell * column + cell // 2, top + cell * row + cell // 2)
        draw.text(at, str(confusion_KK[row, column]), ink, _font(13 if cell > 40 else 11), anchor="mm")


def _upright(image: Image.Image, text: str, at: tuple[int, int], font: Any, anchor: str = "top") -> None:
    """Text that reads upwards: its upper left corner at a point, or standing on one and centred there."""
    from PIL import Image, ImageDraw

    width, height = round(font.getlength(text)) + 2, 18
    drawn = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(drawn).text((1, height // 2), text, _INK, font, anchor="lm")
    turned = drawn.rotate(90, expand=True)
    x, y = at
    image.paste(turned, (x, y) if anchor == "top" else (x - height // 2, y - width))


def _short(name: str, number: int) -> str:
    """A name as it fits; a class's number where the font lacks its letters."""
    if not name.isascii() and not all(ord(letter) < 0x250 for letter in name):
        return str(number)
    return name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 1]}…"


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
