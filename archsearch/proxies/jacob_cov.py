"""Correlation of input Jacobians."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import proxy

# The published constant that keeps the logarithm of a vanishing eigenvalue finite.
_EPSILON = 1e-5

if TYPE_CHECKING:
    from torch import Tensor


@proxy(
    "data", "gradients", reads={"jacobian"}, magnitude=False, source="Mellor et al. 2020 (v1), section 3, as jacob_cov"
)
def jacob_cov(ev: Evidence) -> Tensor:
    """How little the images' Jacobians are alike: −Σ [log(λ + ε) + 1/(λ + ε)], λ of their correlation matrix."""
    import torch

    eigenvalues_B = torch.linalg.eigvalsh(ev.jacobian_BB.double()).clamp_min(0) + _EPSILON
    total: Tensor = (eigenvalues_B.log() + 1 / eigenvalues_B).sum()
    return -total
