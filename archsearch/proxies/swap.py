"""Sample-wise activation patterns."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy("data", reads={"patterns"}, magnitude=True, source="SWAP-Score, Peng et al. 2024, definition 3.2")
def swap(ev: Evidence) -> float:
    """How many different patterns over the batch single units show."""
    return float(ev.patterns)
