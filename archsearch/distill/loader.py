"""What a training is fed with: batches, from whatever source its domain has.

Which examples a step shows, and in which views, depends on the seed, the epoch and the step alone, so a training may go
on at any step.
"""

# B batch, N examples

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from archsearch.data.decisions import decisions
from archsearch.distill.group import Group
from archsearch.distill.pool import Pool
from archsearch.request import DistillSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Mixed:
    """What the views of a batch are mixed with.

    Attributes:
        y: Its targets, as those of the batch.
        share_B: How much of each view is its own example's, 0 to 1.
    """

    y: Tensor
    share_B: Tensor

    def part(self, start: int, end: int) -> Mixed:
        """Of examples number `start` to `end`."""
        return Mixed(self.y[start:end], self.share_B[start:end])


@dataclass(frozen=True)
class Batch:
    """One process's share of a batch.

    Attributes:
        x: The examples as networks are asked about them, augmented, on the device.
        y: Targets, on the device; see `archsearch.data.decisions`. `UNKNOWN` where an example has no label.
        row_B: Numbers of the examples in the training split, and behind it of those without labels (CPU).
        view_B: The view each is shown in; None where views have no numbers.
        mixed: What else they show; None where each shows one example.
    """

    x: Tensor
    y: Tensor
    row_B: npt.NDArray[np.int64]
    view_B: npt.NDArray[np.int64] | None
    mixed: Mixed | None = None

    @property
    def decisions(self) -> int:
        """How many of them count (count): what means are taken over."""
        return len(decisions(self.y).targets_M)

    def part(self, start: int, end: int) -> Batch:
        """Examples number `start` to `end` of these."""
        view_B = None if self.view_B is None else self.view_B[start:end]
        mixed = None if self.mixed is None else self.mixed.part(start, end)
        return Batch(self.x[start:end], self.y[start:end], self.row_B[start:end], view_B, mixed)


class Loader(Protocol):
    """A source of batches."""

    def epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of an epoch, from step number `first` on."""


def plan(rows: Pool, spec: DistillSpec, epoch: int) -> tuple[Tensor, Any]:
    """Numbers of the examples of an epoch, in order, and the generator that draws what else the epoch needs."""
    import torch

    # A generator of its own for each epoch: what an epoch does depends on nothing that came before it.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{spec.seed}/{epoch}".encode()))
    return rows.order(generator), generator


def shares(rows: Pool, group: Group, first: int) -> list[slice]:
    """A process's part of an epoch's order in every step, from step number `first` on."""
    size = rows.batch_size
    return [group.share(step * size, size) for step in range(first, rows.steps)]
