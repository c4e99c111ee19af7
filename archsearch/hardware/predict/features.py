"""What a network's latency is read from: its layers by kind, their multiply-accumulates, and what they write."""

# N members, F features

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from archsearch.spaces import Count
from archsearch.spaces.count import KINDS

Floats = npt.NDArray[np.float64]

FEATURES = (*(f"layers_{kind}" for kind in KINDS), *(f"work_{kind}" for kind in KINDS), "moved", "params", "norms")


def featurise(counts: Sequence[Count]) -> Floats:
    """Members × FEATURES."""
    return np.array([features_of(count) for count in counts])


def features_of(count: Count) -> Floats:
    return np.array((*count.layers, *count.work, count.moved, count.params, count.counters), float)
