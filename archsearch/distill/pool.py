"""What a training learns from: examples with labels and, where a loss reads the teacher, those without.

A batch of B holds a fixed number of labelled ones, and L = (1/B)·[Σ over the labelled of the labels' loss + Σ over all
of the teacher's]: few labels are seen often enough, and the teacher's part is a mean over all that it says.
"""

# B batch, N rows: labelled examples and then the others, S steps, L labelled ones of a batch

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from archsearch.data.decisions import decided_once
from archsearch.data.task import UNKNOWN, Dataset, Split
from archsearch.distill.amount import amount
from archsearch.distill.objective import check_unlabelled, objective
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec

S = TypeVar("S", bound=Split)

if TYPE_CHECKING:
    from torch import Generator, Tensor

# Of a batch, what is labelled at least where nobody says.
SHARE = 0.25


@dataclass(frozen=True)
class Pool:
    """The rows of a training, how many there are of each kind, and how they are dealt to its steps.

    Attributes:
        labelled, unlabelled: How many there are (count); rows below `labelled` are those with labels.
        own: How many of a batch are labelled.
        batch_size: Of all the processes together.
        steps: Of an epoch: as many as fill batches with all examples there are, whether they have labels or not.
    """

    labelled: int
    unlabelled: int
    own: int
    batch_size: int
    steps: int

    @property
    def once(self) -> bool:
        """Whether an epoch shows every example once: all have labels."""
        return not self.unlabelled and self.labelled // self.batch_size == self.steps

    def order(self, generator: Generator) -> Tensor:
        """Row numbers of an epoch, one batch after the other; in each the labelled ones are spread evenly."""
        import torch

        if self.once:
            return torch.randperm(self.labelled, generator=generator)
        order_SB = torch.empty(self.steps, self.batch_size, dtype=torch.int64)
        labelled_B = torch.zeros(self.batch_size, dtype=torch.bool)
        labelled_B[torch.arange(self.own) * self.batch_size // self.own] = True
        order_SB[:, labelled_B] = self._dealt(self.labelled, self.own, generator)
        if self.unlabelled:
            others_SB = self._dealt(self.unlabelled, self.batch_size - self.own, generator)
            order_SB[:, ~labelled_B] = self.labelled + others_SB
        return order_SB.flatten()

    def _dealt(self, examples: int, each: int, generator: Generator) -> Tensor:
        """So many of the examples for every step, S×each, round and round in one order: in a step none comes twice
        unless it has to."""
        import torch

        shuffled_N = torch.randperm(examples, generator=generator)
        return shuffled_N[torch.arange(self.steps * each) % examples].view(self.steps, each)


def pool(dataset: Dataset, spec: DistillSpec) -> Pool:
    """The rows of a training; its method, batch and epochs have been chosen.

    Without a loss that reads the teacher the labelled ones are all there is to learn from: as many steps an epoch go
    round them more often.
    """
    size, labelled = amount(spec).batch_size, len(dataset.train)
    steps = dataset.training_examples // size
    if dataset.unlabelled is None or not objective(spec, dataset.task).reads:
        return Pool(labelled, 0, size, size, steps)
    others = len(dataset.unlabelled)
    share = max(SHARE, labelled / (labelled + others)) if spec.labelled_share is None else spec.labelled_share
    # Neither part of a batch has an example twice, if that can be helped.
    own = min(max(round(share * size), 1, size - others), labelled, size - 1)
    return Pool(labelled, others, own, size, steps)


def learned(dataset: Dataset[Any, S], of: Pool) -> S:
    """The examples of every row."""
    if not of.unlabelled or dataset.unlabelled is None:
        return dataset.train
    return dataset.train.joined([dataset.unlabelled])


def targets(dataset: Dataset, of: Pool) -> Tensor:
    """What is right for every row, as `Split.labels` gives it, and `UNKNOWN` where that has no label."""
    import torch

    y = dataset.train.labels()
    if dataset.task.truth == "teacher":  # its answers are for meters: what is learned of is asked view by view
        return torch.full_like(y, UNKNOWN)
    if not of.unlabelled:
        return y
    return torch.cat((y, y.new_full((of.unlabelled, *y.shape[1:]), UNKNOWN)))


def check_pool(spec: DistillSpec, dataset: Dataset) -> None:
    """Raise InvalidRequest where what the request says of examples without labels makes no sense for the data."""
    if dataset.task.truth == "teacher":
        check_unlabelled(spec)
    elif dataset.unlabelled is None:
        if spec.labelled_share is not None:
            raise InvalidRequest(
                "every training example has its label; leave it out, or add examples without (unlabelled/)",
                field="distill.labelled_share",
            )
    elif not decided_once(dataset.train.y_N):
        raise InvalidRequest("examples of many decisions each are learned from with labels only", field="data")
