"""What an example is to a network: numbers that gradients reach, or ids of tokens, some of them padding."""

# B batch, T tokens

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def real_tokens(x: Tensor) -> Tensor | None:
    """Which of a batch's tokens are real, B×T; None of a batch that is not of tokens.

    Tokens come as integers B×2×T: ids, and the text of a pair each is of, which is −1 where there is only padding.
    """
    if x.is_floating_point() or x.ndim != 3:
        return None
    real_BT: Tensor = x[:, 1] >= 0
    return real_BT
