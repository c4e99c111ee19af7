"""Connection sensitivity of the distillation loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.kernels import added
from archsearch.proxies.proxy import proxy

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data",
    "gradients",
    "teacher",
    reads={"gradients"},
    magnitude=True,
    source="SNIP, Lee et al. 2019, eq. 6, with the loss of Hinton et al. 2015",
)
def kd_snip(ev: Evidence) -> Tensor:
    """How much the distillation loss feels each weight: Σ |θ · ∂L/∂θ|, L on the teacher's logits, without labels."""
    return added((weight.value * weight.gradient).abs().sum() for weight in ev.gradients)
