"""Connection sensitivity."""

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
    reads={"label_gradients"},
    magnitude=True,
    source="SNIP, Lee et al. 2019, eq. 6 (summed as in Abdelfattah et al. 2021)",
)
def snip(ev: Evidence) -> Tensor:
    """How much the labels' loss feels each weight: Σ |θ · ∂L/∂θ| over weight matrices."""
    return added((weight.value * weight.gradient).abs().sum() for weight in ev.label_gradients)
