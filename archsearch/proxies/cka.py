"""Likeness of representations."""

from __future__ import annotations

from archsearch import kernels
from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy
from archsearch.proxies.relation import matched_grams


@proxy("data", "teacher", reads={"relations"}, magnitude=False, source="CKA, Kornblith et al. 2019, eq. 3, linear")
def cka(ev: Evidence) -> float:
    """Centred kernel alignment of student's and teacher's maps, averaged over stages matched by depth, 0 to 1."""
    found = [float(kernels.cka(s_BB, t_BB)) for s_BB, t_BB in matched_grams(ev)]
    return sum(found) / len(found)
