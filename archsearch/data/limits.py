"""How much data is taken in, and how little is enough."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds every loader keeps, checked on declared sizes first and on actual bytes while reading."""

    max_bytes: int = 8 * 2**30  # a data set once unpacked, and once decoded to pixels
    max_examples: int = 1_000_000  # all splits together
    max_classes: int = 10_000
    min_per_class: int = 2  # training images as given, before anything is held out
    to_learn_from: bool = True  # whether there has to be a training split
    min_side: int = 4  # pixels
    max_side: int = 512  # pixels
    max_members: int = 2_000_000  # entries of an archive or folder, junk and folders included
    max_file_bytes: int = 64 * 2**20  # one image file
    max_row_bytes: int = 2**20  # one row of a table of texts
    max_pixels: int = 50_000_000  # one image before it is resized
    max_ratio: int = 200  # unpacked bytes for each packed one, of members over 1 MiB
