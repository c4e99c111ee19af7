"""Signal to noise of single samples' gradients of the distillation loss."""

from __future__ import annotations

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy
from archsearch.proxies.psi import log_snr


@proxy(
    "data",
    "gradients",
    "teacher",
    reads={"samples"},
    magnitude=True,
    source="ZiCo, Li et al. 2023, eq. 17, over single samples, with the loss of Hinton et al. 2015",
)
def kd_psi(ev: Evidence) -> float:
    """Σ over layers of log Σ mean |g| / std g, g the distillation gradients of single samples, without labels."""
    return log_snr(ev.samples)
