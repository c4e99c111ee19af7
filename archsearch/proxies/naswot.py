"""Distinct activation codes."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxy


@proxy("data", reads={"codes"}, magnitude=False, source="NASWOT, Mellor et al. 2021, eq. 2-3; GELU and SiLU by sign")
def naswot(ev: Evidence) -> float:
    """log |det K|, K counting the units in which two images' activation codes agree."""
    import torch

    if ev.codes.products_BB is None:
        raise Undefined("the network has no ReLU, GELU or SiLU module")
    # Where codes of ±1 agree their product is 1: agreements are half of the units and the products together.
    agreements_BB = (ev.codes.units + ev.codes.products_BB.double()) / 2
    sign, log_det = torch.linalg.slogdet(agreements_BB)
    if not sign > 0:
        raise Undefined("two images have the same activation code")
    return float(log_det)
