"""Likeness of representations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch import kernels
from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy
from archsearch.proxies.relation import matched_grams

if TYPE_CHECKING:
    from torch import Tensor


@proxy("data", "teacher", reads={"relations"}, magnitude=False, source="CKA, Kornblith et al. 2019, eq. 3, linear")
def cka(ev: Evidence) -> Tensor:
    """Centred kernel alignment of student's and teacher's maps, averaged over stages matched by depth, 0 to 1."""
    found = [kernels.cka(s_BB, t_BB) for s_BB, t_BB in matched_grams(ev)]
    return kernels.added(found) / len(found)
