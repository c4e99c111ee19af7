"""The same image twice. Images are the same where their pixels are, after decoding and resizing.

Images that are merely alike are not found.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from archsearch.data import duplicates
from archsearch.data.duplicates import Called, Looked, Words
from archsearch.domains.images.task import ImageSplit
from archsearch.request import OnDuplicates

WORDS = Words("images", "every pixel is the same")


def look(splits: Mapping[str, ImageSplit], wanted: OnDuplicates, called: Called) -> Looked[ImageSplit]:
    """Find images that are there twice, and do with them what is wanted; see `data.duplicates.look`."""
    return duplicates.look(splits, _pixels, wanted, called, WORDS)


def _pixels(split: ImageSplit, row: int) -> memoryview:
    return np.ascontiguousarray(split.x_NHWC[row]).data.cast("B")
