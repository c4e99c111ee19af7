"""Likeness of sample relations in the last stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch import kernels
from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy
from archsearch.proxies.relation import matched_grams

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data", "teacher", reads={"relations"}, magnitude=False, source="DisWOT, Dong et al. 2023, eq. 5-6; trained teacher"
)
def relation_last(ev: Evidence) -> Tensor:
    """Minus the mean squared distance between the last maps' sample relations: −‖G_T − G_S‖²_F / B², as published."""
    s_BB, t_BB = (kernels.relation(gram_BB) for gram_BB in matched_grams(ev)[-1])
    gap: Tensor = (s_BB - t_BB).square().mean()
    return -gap
