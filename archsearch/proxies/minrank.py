"""Rank."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(magnitude=True, source="this project; an upper bound of each matrix's rank, summed")
def minrank(ev: Evidence) -> float:
    """The largest rank all weight matrices together can have: the sum of min(in, out), without the classifier."""
    matrices = [layer for layer in ev.layers if not layer.is_head]
    return float(sum(layer.groups * min(layer.d_out // layer.groups, layer.d_in) for layer in matrices))
