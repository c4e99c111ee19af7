"""Multiply-accumulates."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(magnitude=True, source="a baseline: cost instead of size")
def macs(ev: Evidence) -> float:
    """Multiply-accumulates of convolutions and linear layers for one image; attention's products are not counted."""
    return float(ev.macs)
