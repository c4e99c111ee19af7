"""Connection sensitivity, whatever the gradient's size."""

from __future__ import annotations

import math

from archsearch.evidence import Evidence
from archsearch.proxies.proxy import Undefined, proxy


@proxy(
    "data",
    "gradients",
    "teacher",
    reads={"gradients"},
    magnitude=True,
    source="this project; SNIP over the gradient's norm",
)
def relative_snip(ev: Evidence) -> float:
    """SNIP without reward for exploding gradients: Σ |θ · ∂L/∂θ| / ‖∂L/∂θ‖₂ over weight matrices.

    A gradient's overall size says how fast a step moves the loss, which a learning rate makes up for; in deep and
    narrow networks it grows with every layer, and plain SNIP mistakes that for merit. What is left is how widely the
    gradient is spread over the weights. The value is the same for any multiple of the loss.
    """
    squares: float = sum(weight.gradient.square().sum().item() for weight in ev.gradients)
    if not squares > 0:
        raise Undefined("no gradient reaches the weights")
    return sum((weight.value * weight.gradient).abs().sum().item() for weight in ev.gradients) / math.sqrt(squares)
