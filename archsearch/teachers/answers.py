"""The last layer of a network that shows its answers and nothing that makes them."""

# B batch, K classes

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Answers(nn.Module):
    """Answers B×K as they come, or some of them in another order; it has no weights.

    Attributes:
        count: Answers it gives.
        order: Of the answers as they come, which they are; None for all, as they are.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.order: list[int] | None = None

    def forward(self, answers_BK: Tensor) -> Tensor:
        return answers_BK if self.order is None else answers_BK[:, self.order]

    def take(self, order: Sequence[int]) -> None:
        """From now on only these of its answers, in this order."""
        self.order = [k if self.order is None else self.order[k] for k in order]
        self.count = len(self.order)
