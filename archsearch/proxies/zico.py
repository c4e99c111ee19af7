"""Inverse coefficient of variation of gradients."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(
    "data", "labels", "gradients", reads={"zico"}, magnitude=False, source="ZiCo, Li et al. 2023, eq. 17; two batches"
)
def zico(ev: Evidence) -> float:
    """Σ over layers of log Σ E|g| / std g, over the gradients of two halves of the batch."""
    import torch

    total = 0.0
    for first, second in zip(*ev.zico, strict=True):
        pair = torch.stack([first.gradient, second.gradient])
        deviation = pair.std(0, correction=0)
        ratio = (pair.abs().mean(0) / deviation.clamp_min(1e-30))[deviation > 0].sum()
        if ratio > 0:
            total += float(ratio.log())
    return total
