"""Parameter count."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(magnitude=True, source="the baseline every score has to beat")
def params(ev: Evidence) -> float:
    """Size: the number of entries of all weight matrices, the classifier's left out, whose size is the task's."""
    return float(sum(layer.params for layer in ev.layers if not layer.is_head))
