"""Expressivity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.kernels import added
from archsearch.proxies.proxy import Undefined, proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy("data", reads={"spectra"}, magnitude=False, source="AZ-NAS, Lee and Ham 2024, eq. 1-3")
def expressivity(ev: Evidence) -> Tensor:
    """Σ over blocks of the entropy of their channels' principal components."""
    return added(entropies(ev))


def entropies(ev: Evidence) -> list[Tensor]:
    """Of each block's covariance spectrum, in nats."""
    if not ev.spectra:
        raise Undefined("the network has no blocks in sequence")
    found = []
    for eigenvalues_C in ev.spectra:
        share_C = eigenvalues_C / eigenvalues_C.sum().clamp_min(1e-30)
        found.append(-(share_C * share_C.clamp_min(1e-30).log()).sum().double())
    return found
