"""Zen-Score."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxy


@proxy(
    reads={"zen"},
    magnitude=False,
    source="Zen-NAS, Lin et al. 2021, algorithm 1, the change in L1 as in its code; residual links stay",
)
def zen(ev: Evidence) -> float:
    """log of the last map's change under a small Gaussian change of a Gaussian input, plus Σ log of the BN scales."""
    import torch

    if ev.zen is None:
        raise Undefined("it is defined for an input that changes by a little, and tokens are no numbers")
    if not ev.zen.bn_variances:
        raise Undefined("the network has no batch norm")
    scales = torch.stack(ev.zen.bn_variances)
    if not (ev.zen.difference > 0 and bool((scales > 0).all())):
        raise Undefined("no signal passes through the network")
    return float(ev.zen.difference.log() + 0.5 * scales.log().sum())
