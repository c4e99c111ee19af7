"""Progressivity."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.proxies.expressivity import entropies
from archsearch.proxies.proxy import Undefined, proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy("data", reads={"spectra"}, magnitude=False, source="AZ-NAS, Lee and Ham 2024, eq. 4")
def progressivity(ev: Evidence) -> Tensor:
    """The least growth of expressivity from one block to the next."""
    import torch

    found = entropies(ev)
    if len(found) < 2:
        raise Undefined("the network has a single block")
    return torch.stack([after - before for before, after in pairwise(found)]).min()
