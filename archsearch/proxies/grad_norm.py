"""Gradient norm."""

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
    source="Abdelfattah et al. 2021, section 3.1",
)
def grad_norm(ev: Evidence) -> Tensor:
    """How strongly the labels' loss pulls: the sum over weight matrices of ‖∂L/∂θ‖₂."""
    return added(weight.gradient.norm() for weight in ev.label_gradients)
