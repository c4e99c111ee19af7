"""What a training says of itself while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from archsearch.precision import Computed
from archsearch.unit import Direction, Unit


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        epoch: Epochs finished, counting those before a resume.
        step: Steps finished, likewise.
        loss: Mean training loss of the epoch so far.
        terms: What adds up to it by name, as weighted: the labels' part and every loss's. Empty until the next epoch
            where it goes on from a checkpoint without them.
        selection_acc: What the task is judged by, on the selection split, where this report measured it; the name is of
            the first tasks there were.
        metric: The key of what that is: `acc`, `balanced_acc` with uneven classes, `map` with many labels.
        unit, better: Of what that is, and which way; it may be a loss.
        eta_s: Estimated seconds to the end.
        images_per_s: Training images a second, since the start or the resume.
        resumed_at: The step a checkpoint let this training continue from, 0 for a fresh start.
        retries: Times the training was rolled back after diverging.
        cached: Share of the teacher's answers that were found in the view cache; None without one.
        micro_batch: Images computed at a time; fewer than asked for where memory ran out.
        lr: Peak learning rate, after what rolling back made of it.
        precision: What it computes in: fp32 also where half precision was wanted and diverged.
        precision_wanted: What it was to compute in; None in reports of before there was a choice.
        precision_why: Why that, in words: by what measurement or rule. Empty where the request says it.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    selection_acc: float | None
    eta_s: float
    images_per_s: float
    resumed_at: int
    retries: int
    cached: float | None
    micro_batch: int
    lr: float
    metric: str = "acc"
    unit: Unit = "%"
    better: Direction = "higher"
    precision: Computed = "fp32"
    precision_wanted: Computed | None = None
    precision_why: str = ""
    terms: dict[str, float] = field(default_factory=dict)
