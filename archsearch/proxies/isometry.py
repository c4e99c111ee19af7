"""Isometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy
from archsearch.proxies.trainability import stability

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "gradients",
    reads={"gains"},
    magnitude=False,
    source="this project; AZ-NAS' trainability (Lee and Ham 2024, eq. 5) with the Frobenius norm",
)
def isometry(ev: Evidence) -> Tensor:
    """How evenly blocks pass gradients on: mean over blocks of 2 − σ − 1/σ, σ = ‖J‖_F / √outputs; ≥ −4.

    σ is 1 where a block neither swells nor swallows a gradient (dynamical isometry, Saxe et al. 2014). The Frobenius
    norm counts all directions; the spectral norm sees the largest alone, and punishes every transformer.
    """
    return stability(ev.gains)
