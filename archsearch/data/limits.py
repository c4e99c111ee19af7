"""How much data is taken in, and how little is enough."""

from __future__ import annotations

import sys
from dataclasses import dataclass

# Whoever reads his own data on his own machine is bounded by that machine alone.
NO_LIMIT = sys.maxsize


@dataclass(frozen=True)
class Limits:
    """Bounds every loader keeps, checked on declared sizes first and on actual bytes while reading.

    By default nothing is bounded that grows with honest data; a service sets those bounds (`Settings`). What no honest
    file exceeds is bounded for everybody: it would be damaged or forged.
    """

    max_bytes: int = NO_LIMIT  # a data set once unpacked, and once decoded where it is kept so
    max_examples: int = NO_LIMIT  # all splits together
    max_classes: int = NO_LIMIT
    min_per_class: int = 2  # training images as given, before anything is held out
    to_learn_from: bool = True  # whether there has to be a training split
    min_side: int = 4  # pixels
    max_side: int = NO_LIMIT  # pixels
    max_members: int = NO_LIMIT  # entries of an archive or folder, junk and folders included
    max_file_bytes: int = 64 * 2**20  # one image file
    max_row_bytes: int = 2**20  # one row of a table of texts
    max_pixels: int = 50_000_000  # one image before it is resized
    max_ratio: int = 200  # unpacked bytes for each packed one, of members over 1 MiB
