"""Gradient norm."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(
    "data",
    "labels",
    "gradients",
    reads={"label_gradients"},
    magnitude=True,
    source="Abdelfattah et al. 2021, section 3.1",
)
def grad_norm(ev: Evidence) -> float:
    """How strongly the labels' loss pulls: the sum over weight matrices of ‖∂L/∂θ‖₂."""
    return sum(float(weight.gradient.norm()) for weight in ev.label_gradients)
