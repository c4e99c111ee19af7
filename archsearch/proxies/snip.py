"""Connection sensitivity."""

from __future__ import annotations

from archsearch.proxies.evidence import Evidence
from archsearch.proxies.proxy import proxy


@proxy(
    "data",
    "gradients",
    "teacher",
    magnitude=True,
    source="SNIP, Lee et al. 2019, eq. 6 (summed as in Abdelfattah 2021)",
)
def snip(ev: Evidence) -> float:
    """How much the distillation loss feels each weight: Σ |θ · ∂L/∂θ| over weight matrices.

    L is the KL divergence to the teacher's softened logits rather than the cross-entropy, so no labels are needed.
    """
    return sum((weight.value * weight.gradient).abs().sum().item() for weight in ev.weights)
