"""Progressivity."""

from __future__ import annotations

from itertools import pairwise

from archsearch.evidence import Evidence
from archsearch.proxies.expressivity import entropies
from archsearch.proxies.proxy import Undefined, proxy


@proxy("data", reads={"spectra"}, magnitude=False, source="AZ-NAS, Lee and Ham 2024, eq. 4")
def progressivity(ev: Evidence) -> float:
    """The least growth of expressivity from one block to the next."""
    found = entropies(ev)
    if len(found) < 2:
        raise Undefined("the network has a single block")
    return min(after - before for before, after in pairwise(found))
