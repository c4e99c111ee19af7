"""What networks answer to a whole split: of one or of several, from one pass over it."""

# N examples, K classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from archsearch.data.batches import MOST, asked
from archsearch.data.task import Split

if TYPE_CHECKING:
    from torch import Tensor

# From examples as a split gives them to logits B×K.
Network = Callable[["Tensor"], "Tensor"]
# Told after every call how many examples are done, of how many.
Report = Callable[[int, int], None]


def answers(
    networks: Mapping[str, Network], split: Split, batch_size: int = MOST, *, report: Report | None = None
) -> dict[str, npt.NDArray[np.float32]]:
    """The logits N×K of every network, from one pass over the split, which may be memory-mapped.

    Args:
        networks: In eval mode, by names of the caller's own.
        batch_size: Examples a call at most; fewer where they take much memory or time. It does not change the result.
        report: Told where it stands; it may raise.
    """

    def all_of_them(x: Tensor) -> dict[str, Tensor]:
        return {name: run(x) for name, run in networks.items()}

    found: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in networks}
    for _, told in asked(all_of_them, split.examples, len(split), most=batch_size, report=report):
        for name, logits_BK in told.items():
            found[name].append(logits_BK.float().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}
