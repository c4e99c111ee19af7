"""Fisher information of activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.kernels import added
from archsearch.proxies.proxy import proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "labels",
    "gradients",
    reads={"fisher"},
    magnitude=True,
    source="Turner et al. 2020 (BlockSwap), eq. 3; summed over layers as in Abdelfattah et al. 2021",
)
def fisher(ev: Evidence) -> Tensor:
    """Σ over channels of ½ · mean over images of (Σ over positions of activation · gradient)²."""
    return added(0.5 * product_BC.square().mean(0).sum().double() for product_BC in ev.fisher)
