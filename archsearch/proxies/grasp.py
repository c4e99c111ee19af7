"""Gradient flow kept."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(
    "data",
    "labels",
    "gradients",
    reads={"grasp"},
    magnitude=False,
    source="GraSP, Wang et al. 2020, eq. 8 (summed as in Abdelfattah et al. 2021)",
)
def grasp(ev: Evidence) -> float:
    """How much the gradient's norm would lose with each weight: −Σ θ · Hg, H the Hessian, g the labels' gradient."""
    return -sum((weight.value * weight.gradient).sum().item() for weight in ev.grasp)
