"""Where a training stands beside its tensors: what a checkpoint keeps of it, and how each step changes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from archsearch.errors import TrainingError

# A loss this many times what has been usual lately is a training that diverges. Lately, since losses with a warm-up
# begin near nothing.
_DIVERGED = 20.0
_FIRST_STEPS = 20
_FORGETS = 0.05
# How often a diverging training is rolled back, how much gentler it goes on, and the gradient's length from then on.
RETRIES = 3
_GENTLER = 0.3
GENTLE_NORM = 1.0


class Diverged(Exception):
    """The training went wrong since the last good state."""


class Hopeless(TrainingError):
    """The training diverges however gently it goes on."""


@dataclass(frozen=True)
class TrainState:
    """Where a training stands, beside its tensors. All of it is kept: what is left out here, a resume forgets.

    Attributes:
        step: Steps finished.
        retries: Times it was rolled back after diverging.
        gentle: Factor on the learning rate since then.
        micro_batch: Images computed at a time, which a lack of memory may have made smaller.
        loss_sum, loss_count: Of the epoch under way.
        usual, looked: The running mean of the losses, and how many it is of: what divergence is measured by.
        term_sums: Of the loss's terms, over the same steps as `loss_sum`; empty where not all of those are known.
    """

    step: int = 0
    retries: int = 0
    gentle: float = 1.0
    micro_batch: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    usual: float = 0.0
    looked: int = 0
    term_sums: Mapping[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """The mean of the epoch so far."""
        return self.loss_sum / max(1, self.loss_count)

    @property
    def terms(self) -> dict[str, float]:
        """The loss's terms, likewise."""
        return {name: total / max(1, self.loss_count) for name, total in self.term_sums.items()}

    def clip_norm(self, asked: float | None) -> float | None:
        """How long a gradient may be; None where that is not limited."""
        return min(asked or math.inf, GENTLE_NORM) if self.retries else asked

    def next_epoch(self) -> TrainState:
        """With nothing summed up yet."""
        return replace(self, loss_sum=0.0, loss_count=0, term_sums={})

    def with_loss(self, loss: float, terms: Mapping[str, float]) -> TrainState:
        """With one more step's loss looked at; raises Diverged where it is not finite or far too large."""
        if not math.isfinite(loss):
            raise Diverged(f"the loss became {loss}")
        if self.looked >= _FIRST_STEPS and loss > _DIVERGED * max(self.usual, 1.0):
            raise Diverged(f"the loss grew from {self.usual:.3g} to {loss:.3g}")
        return replace(
            self,
            loss_sum=self.loss_sum + loss,
            loss_count=self.loss_count + 1,
            term_sums=self._summed(terms),
            usual=self.usual + max(_FORGETS, 1 / (self.looked + 1)) * (loss - self.usual),
            looked=self.looked + 1,
        )

    def gentler_from(self, earlier: TrainState) -> TrainState:
        """The earlier state, to go on from more gently than until now."""
        return replace(earlier, retries=self.retries + 1, gentle=self.gentle * _GENTLER)

    def _summed(self, terms: Mapping[str, float]) -> dict[str, float]:
        if self.loss_count and not self.term_sums:
            return {}  # an older checkpoint did not keep those of the steps before
        return {name: self.term_sums.get(name, 0.0) + value for name, value in terms.items()}
