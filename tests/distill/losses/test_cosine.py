from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from archsearch.distill.loss import LossInputs, Outputs, Sizes, losses

# B batch, D features

cosine = losses.get("cosine")


def value(student_BD: torch.Tensor, teacher_BD: torch.Tensor, map_: nn.Module) -> torch.Tensor:
    size = len(student_BD)
    ours, theirs = (Outputs(torch.zeros(size, 2), embedding_BD=each) for each in (student_BD, teacher_BD))
    inputs = LossInputs(ours, theirs, torch.zeros(size, dtype=torch.long), torch.arange(size), adapter=map_)
    return cosine.compute(inputs, cosine.settings())


def test_by_hand() -> None:
    """Angles of 0°, 90° and 60°, whatever the lengths: 1 − cos is 0, 1 and ½."""
    student_BD = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    teacher_BD = torch.tensor([[5.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]])
    assert value(student_BD, teacher_BD, nn.Identity()).item() == pytest.approx(0.5, abs=1e-6)


def test_its_map_leads_to_the_teachers_width_and_is_trained() -> None:
    assert cosine.adapter is not None
    map_ = cosine.adapter(Sizes((), (), 3, 5, 10, 100), cosine.settings())
    student_BD, teacher_BD = torch.randn(8, 3), torch.randn(8, 5)
    before = value(student_BD, teacher_BD, map_)
    before.backward()
    with torch.no_grad():
        for weight in map_.parameters():
            assert weight.grad is not None
            weight -= weight.grad
    assert value(student_BD, teacher_BD, map_) < before
