"""Effective rank of input Jacobians."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch import kernels
from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "gradients",
    reads={"jacobian"},
    magnitude=True,
    source="Roy and Vetterli 2007, of the correlation of Mellor et al. 2020",
)
def effective_rank(ev: Evidence) -> Tensor:
    """How many directions the images' Jacobians point in, as a share of the images: erank / B, from 1/B to 1."""
    return kernels.effective_rank(ev.jacobian_BB) / ev.batch_size
