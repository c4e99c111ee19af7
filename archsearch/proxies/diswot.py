"""DisWOT's sum."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy
from archsearch.proxies.relation_last import relation_last
from archsearch.proxies.semantic import semantic


@proxy(
    "data",
    "labels",
    "teacher",
    reads={"head", "relations"},
    magnitude=False,
    source="DisWOT, Dong et al. 2023, eq. 7; trained teacher, Kaiming initialisation",
)
def diswot(ev: Evidence) -> float:
    """The published sum of the semantic and the last stage's relation likeness; the latter is numerically inert."""
    return semantic(ev) + relation_last(ev)
