"""Trainability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxy

if TYPE_CHECKING:
    from torch import Tensor


# A block that passes nothing on, or everything many times over, is no worse than this.
_WORST = -4.0


@proxy("data", "gradients", reads={"spectral_gains"}, magnitude=False, source="AZ-NAS, Lee and Ham 2024, eq. 5-9")
def trainability(ev: Evidence) -> Tensor:
    """Mean over blocks of 2 − σ − 1/σ, σ the spectral norm of the block's mean Jacobian at one position; ≥ −4."""
    return stability(ev.spectral_gains)


def stability(gains: Sequence[Tensor]) -> Tensor:
    """Mean of 2 − σ − 1/σ over blocks."""
    import torch

    if not gains:
        raise Undefined("the network has no blocks in sequence")
    return departure(torch.stack(tuple(gains)).float()).mean()


def departure(ratio: Tensor) -> Tensor:
    """2 − x − 1/x: 0 where a ratio is 1, flat around it, falling to both sides, clipped at −4."""
    # Written as a square: near 1, where transformers' blocks are, the difference of its terms is lost in rounding.
    return (-(ratio - 1).square() / ratio.clamp_min(1e-30)).clamp_min(_WORST)
