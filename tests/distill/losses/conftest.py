"""What the tests of single losses share: batches of given logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from archsearch.data import Task
from archsearch.distill.loss import Batch, Seen

# B batch, K classes

Rows = Sequence[Sequence[float]] | torch.Tensor


@pytest.fixture
def of_logits() -> Callable[..., Batch]:
    """A function from student's logits, teacher's logits and labels to a batch that shows nothing else."""

    def build(
        student: Rows, teacher: Rows | None = None, y: Sequence[int] | Rows | None = None, done: float = 1.0
    ) -> Batch:
        student_BK = torch.as_tensor(student, dtype=torch.float32)
        y = torch.zeros(len(student_BK), dtype=torch.long) if y is None else torch.as_tensor(y)
        seen = None if teacher is None else Seen(torch.as_tensor(teacher, dtype=torch.float32))
        return Batch(Seen(student_BK), seen, y, torch.arange(len(student_BK)), done)

    return build


@pytest.fixture
def answers() -> Callable[..., torch.Tensor]:
    """A function from a seed to random logits, 6×5 unless a shape is given."""

    def draw(seed: int, *shape: int, scale: float = 3.0) -> torch.Tensor:
        return scale * torch.randn(*(shape or (6, 5)), generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture
def two_classes() -> Task:
    return Task(2, 3, 8, 8, (0.5,) * 3, (0.25,) * 3)
