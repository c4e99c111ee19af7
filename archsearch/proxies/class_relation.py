"""Likeness of class relations in the classifier's gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch import kernels
from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy
from archsearch.proxies.semantic import head_gradients

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "labels",
    "teacher",
    reads={"head"},
    magnitude=False,
    source="this project; DisWOT's semantic term without its dimension, by CKA (Kornblith et al. 2019, eq. 3)",
)
def class_relation(ev: Evidence) -> Tensor:
    """How alike classes relate in both classifiers: CKA of g·gᵀ, g the K×D class gradients; heads of any width."""
    s_KD, t_KD = head_gradients(ev)
    return kernels.cka(s_KD @ s_KD.T, t_KD @ t_KD.T)
