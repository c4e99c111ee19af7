"""Signal to noise of single samples' gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable

from archsearch.evidence import Evidence, LayerSamples
from archsearch.proxies.proxy import proxy


@proxy(
    "data",
    "labels",
    "gradients",
    reads={"label_samples"},
    magnitude=True,
    source="ZiCo, Li et al. 2023, eq. 17, over single samples instead of batches",
)
def psi(ev: Evidence) -> float:
    """Σ over layers of log Σ mean |g| / std g, g the labels' gradients of single samples."""
    return log_snr(ev.label_samples)


def log_snr(samples: Iterable[LayerSamples]) -> float:
    """Layers that no gradient reaches add nothing; what is not positive in all has no logarithm to vote with."""
    import torch

    ratios = [layer.snr for layer in samples]
    # In one wait for all layers; the logarithm is the processor's own, as it always was.
    return sum(math.log(ratio) for ratio in (torch.stack(ratios).tolist() if ratios else ()) if ratio > 0)
