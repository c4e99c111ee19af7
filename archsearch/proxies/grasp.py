"""Gradient flow kept."""

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
    reads={"grasp"},
    magnitude=False,
    source="GraSP, Wang et al. 2020, eq. 8 (summed as in Abdelfattah et al. 2021)",
)
def grasp(ev: Evidence) -> Tensor:
    """How much the gradient's norm would lose with each weight: −Σ θ · Hg, H the Hessian, g the labels' gradient."""
    return -added((weight.value * weight.gradient).sum() for weight in ev.grasp)
