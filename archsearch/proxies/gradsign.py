"""Agreement of single samples' gradients."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(
    "data", "labels", "gradients", reads={"label_samples"}, magnitude=True, source="GradSign, Zhang and Jia 2022, eq. 8"
)
def gradsign(ev: Evidence) -> float:
    """Σ over weights of |Σ_b sign g_b|, over the weights of layers (of a kernel its centre tap)."""
    return float(sum(samples.agreement for samples in ev.label_samples if samples.agreement is not None))
