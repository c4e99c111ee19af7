"""Synaptic flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.kernels import added
from archsearch.proxies.proxy import Undefined, proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy("gradients", reads={"synflow"}, magnitude=True, source="SynFlow, Tanaka et al. 2020, eq. 8")
def synflow(ev: Evidence) -> Tensor:
    """Σ |θ| · ∂R/∂|θ| over weight matrices, R the summed output for an input of ones with all weights positive.

    Looks at no data. Norms are taken out, so that scale counts.
    """
    if ev.synflow is None:
        raise Undefined("it is defined for an input of ones, and tokens are no numbers")
    return added((weight.value * weight.gradient).sum() for weight in ev.synflow)
