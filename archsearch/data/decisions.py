"""Answers as rows of decisions, which losses and meters read, be they one an example, a token or a pixel.

The layout is torch's own of a cross-entropy: an example that is decided once has a target (or K of 0 and 1) and answers
B×K; one of many decisions has targets B×…, below 0 where none counts, and answers B×K×….
"""

# B batch, K classes or labels, M decisions

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from archsearch.data.task import Labels


@dataclass(frozen=True)
class Decisions:
    """Those of a batch that count.

    Attributes:
        targets_M: What would be right: numbers of classes, or M×K of 0 and 1.
        example_M: Which example of the batch each belongs to; None where every example is one decision.
        counted: B×…, which of all they are; None where every example is one decision.
    """

    targets_M: Tensor
    example_M: Tensor | None = None
    counted: Tensor | None = None

    def rows(self, answers: Tensor) -> Tensor:
        """A network's answers to the batch, B×K or B×K×…, as M×K in the order of the targets."""
        return answers if self.counted is None else answers.movedim(1, -1)[self.counted]


def decisions(targets: Tensor) -> Decisions:
    """Those that a batch's targets tell of: B, B×K floats of 0 and 1, or B×… whole numbers."""
    if targets.ndim == 1 or targets.is_floating_point():
        return Decisions(targets)
    counted = targets >= 0
    return Decisions(targets[counted], counted.nonzero()[:, 0], counted)


def decided_once(y_N: Labels) -> bool:
    """Whether each example is one decision, and not one a token or pixel; many labels of an example are bytes."""
    return y_N.ndim == 1 or not np.issubdtype(y_N.dtype, np.signedinteger)


def decided(answers: Tensor, y: Labels) -> tuple[Tensor, Labels | Tensor]:
    """A network's answers to examples, and their labels as a split has them, as rows of the decisions that count."""
    if decided_once(y):
        return answers, y
    import torch

    found = decisions(torch.from_numpy(np.array(y, dtype=np.int64)).to(answers.device))
    return found.rows(answers), found.targets_M
