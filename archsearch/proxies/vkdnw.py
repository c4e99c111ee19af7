"""Entropy of the Fisher spectrum."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxy


@proxy(
    "data",
    "gradients",
    reads={"fisher_information"},
    magnitude=False,
    source="VKDNW, Tybl and Neumann 2025, eq. 8-9; labels drawn, not summed over",
)
def vkdnw(ev: Evidence) -> float:
    """Entropy of the nine deciles of the Fisher information's eigenvalues, scaled to sum to 1."""
    import torch

    eigenvalues_P = torch.linalg.eigvalsh(ev.fisher_information_PP.double()).clamp_min(0)
    tenths = torch.arange(1, 10, dtype=torch.float64, device=eigenvalues_P.device) / 10
    decile_9 = eigenvalues_P.quantile(tenths)
    if not decile_9.sum() > 0:
        raise Undefined("no gradient reaches the weights")
    share_9 = decile_9 / decile_9.sum()
    return -float((share_9 * share_9.clamp_min(1e-300).log()).sum())
