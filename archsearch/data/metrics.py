"""How well answers match labels."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from archsearch.data.task import Split

if TYPE_CHECKING:
    from torch import Tensor


def accuracy(logits: Callable[[Tensor], Tensor], split: Split, batch_size: int = 256) -> float:
    """Top-1 accuracy on a split, in percent.

    Args:
        logits: From images B×C×H×W in 0-1 to logits B×K; in eval mode.
        split: Images and labels; read batch by batch, so it may be memory-mapped.
        batch_size: Images a call. It does not change the result.
    """
    import torch

    right = 0
    with torch.inference_mode():
        for start in range(0, len(split), batch_size):
            part = Split(split.x_NHWC[start : start + batch_size], split.y_N[start : start + batch_size])
            right += int((logits(part.images().float() / 255).argmax(1).cpu() == part.labels()).sum())
    return 100 * right / len(split)
