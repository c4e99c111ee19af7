"""Connection sensitivity."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(
    "data",
    "labels",
    "gradients",
    reads={"label_gradients"},
    magnitude=True,
    source="SNIP, Lee et al. 2019, eq. 6 (summed as in Abdelfattah et al. 2021)",
)
def snip(ev: Evidence) -> float:
    """How much the labels' loss feels each weight: Σ |θ · ∂L/∂θ| over weight matrices."""
    return sum((weight.value * weight.gradient).abs().sum().item() for weight in ev.label_gradients)
