"""Number of layers."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(magnitude=True, source="a baseline: depth alone")
def depth(ev: Evidence) -> float:
    """How many convolutions and linear layers the forward pass comes by."""
    return float(sum(layer.positions > 0 for layer in ev.layers))
