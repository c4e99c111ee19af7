"""DisWOT's sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy
from archsearch.proxies.relation_last import relation_last
from archsearch.proxies.semantic import semantic

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "labels",
    "teacher",
    reads={"head", "relations"},
    magnitude=False,
    source="DisWOT, Dong et al. 2023, eq. 7; trained teacher, Kaiming initialisation",
)
def diswot(ev: Evidence) -> Tensor:
    """The published sum of the semantic and the last stage's relation likeness; the latter is numerically inert."""
    return semantic(ev).double() + relation_last(ev).double()
