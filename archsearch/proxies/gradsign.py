"""Agreement of single samples' gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.kernels import added
from archsearch.proxies.proxy import proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data", "labels", "gradients", reads={"label_samples"}, magnitude=True, source="GradSign, Zhang and Jia 2022, eq. 8"
)
def gradsign(ev: Evidence) -> Tensor:
    """Σ over weights of |Σ_b sign g_b|, over the weights of layers (of a kernel its centre tap)."""
    found = [samples.agreement for samples in ev.label_samples if samples.agreement is not None]
    return sum(found[1:], found[0]) if found else added(())
