"""Fisher information of activations."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(
    "data",
    "labels",
    "gradients",
    reads={"fisher"},
    magnitude=True,
    source="Turner et al. 2020 (BlockSwap), eq. 3; summed over layers as in Abdelfattah et al. 2021",
)
def fisher(ev: Evidence) -> float:
    """Σ over channels of ½ · mean over images of (Σ over positions of activation · gradient)²."""
    return sum(0.5 * product_BC.square().mean(0).sum().item() for product_BC in ev.fisher)
