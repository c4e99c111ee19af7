"""What the tests of single losses share: batches of given logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from archsearch.distill.loss import LossInputs, Outputs
from archsearch.domains.images.task import ImageTask

# B batch, K classes

Rows = Sequence[Sequence[float]] | torch.Tensor


@pytest.fixture
def of_logits() -> Callable[..., LossInputs]:
    """A function from student's logits, teacher's logits and labels to a batch that shows nothing else."""

    def build(
        student: Rows, teacher: Rows | None = None, y: Sequence[int] | Rows | None = None, done: float = 1.0
    ) -> LossInputs:
        student_BK = torch.as_tensor(student, dtype=torch.float32)
        y = torch.zeros(len(student_BK), dtype=torch.long) if y is None else torch.as_tensor(y)
        outputs = None if teacher is None else Outputs(torch.as_tensor(teacher, dtype=torch.float32))
        return LossInputs(Outputs(student_BK), outputs, y, torch.arange(len(student_BK)), done)

    return build


@pytest.fixture
def answers() -> Callable[..., torch.Tensor]:
    """A function from a seed to random logits, 6×5 unless a shape is given."""

    def draw(seed: int, *shape: int, scale: float = 3.0) -> torch.Tensor:
        return scale * torch.randn(*(shape or (6, 5)), generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture
def two_classes() -> ImageTask:
    return ImageTask(2, 3, 8, 8, (0.5,) * 3, (0.25,) * 3)
