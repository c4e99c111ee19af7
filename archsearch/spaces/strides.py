"""How fast a network's map may shrink, so that images of any size leave a map worth pooling."""

from __future__ import annotations

import math

from archsearch.domains.images.task import ImageTask

# Pixels a side of the last map, at least: 28 px end at 4 (a stride of 8), 32 at 4, 64 at 4 (16), 224 at 7 (32).
_LAST_MAP = 3.5
_MOST_HALVINGS = 5
# The stem and four stages, in the order in which they halve the map: the last first, for early halvings lose detail.
_ORDER = (4, 3, 2, 0, 1)


def halvings(task: ImageTask) -> int:
    """How often the map is halved, at most five times."""
    return max(0, min(_MOST_HALVINGS, int(math.log2(min(task.height, task.width) / _LAST_MAP))))


def strides(task: ImageTask) -> tuple[int, int, int, int, int]:
    """Strides of the stem and of four stages."""
    halving = _ORDER[: halvings(task)]
    stem, first, second, third, fourth = (2 if place in halving else 1 for place in range(len(_ORDER)))
    return stem, first, second, third, fourth


def shrunk(side: int, stride: int) -> int:
    """The side of a map after a padded convolution: odd sides round up."""
    return -(-side // stride)
