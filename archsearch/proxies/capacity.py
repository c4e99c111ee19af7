"""What the layers that learn can carry: a size term that saturates where parameters do not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "gradients",
    "teacher",
    reads={"live"},
    magnitude=True,
    source="this project; r after Page 1993 (effective rank, Roy and Vetterli 2007), docs/decisions/0006-score.md",
)
def capacity(ev: Evidence) -> float | Tensor:
    """What the layers that learn can carry, in nats: Σ r · log(1 + r), r the effective rank of their weights.

    Shannon's count for r parallel channels whose signal-to-noise ratio is r, since r directions add up. It lies between
    counting directions (r) and counting weights (about r²); parameters overrate a matrix with one long side, as in wide
    MLPs. Groups are matrices of their own. A layer that the distillation loss does not reach carries nothing; the
    classifier is left out, whose size is the task's.
    """
    total: float | Tensor = 0.0
    for layer, alive in ev.live:
        if not layer.is_head:
            r = initial_rank(layer.d_out / layer.groups, layer.d_in)
            total = total + alive * (layer.groups * r * math.log1p(r))
    return total


def initial_rank(d_out: float, d_in: float) -> float:
    """Effective rank of a random matrix of independent entries, before any training: m · exp(−m / 2n), m ≤ n its sides.

    The mean entropy of its normalised squared singular values is log m − m/2n (Page 1993, for large sides).
    """
    m, n = min(d_out, d_in), max(d_out, d_in)
    return m * math.exp(-m / (2 * n))
