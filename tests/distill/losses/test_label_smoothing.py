from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.losses.label_smoothing import LabelSmoothing, label_smoothing


def test_label_smoothing_by_hand(of_logits) -> None:
    """Student (1/2, 1/4, 1/4), label 0, ε = 0.3: 0.8 on the label and 0.1 on each other."""
    value = label_smoothing(of_logits([[math.log(2), 0, 0]], y=[0]), LabelSmoothing(smoothing=0.3))
    assert value.item() == pytest.approx(0.8 * math.log(2) + 0.2 * math.log(4), abs=1e-6)


def test_it_is_least_where_the_student_is_as_unsure_as_asked(of_logits) -> None:
    """With ε = 0.1 and four classes the label should get 0.925 and the others 0.025 each."""
    student_BK = torch.tensor([[0.925, 0.025, 0.025, 0.025]]).log().requires_grad_()
    value = label_smoothing(of_logits(student_BK, y=[0]), LabelSmoothing())
    (gradient_BK,) = torch.autograd.grad(value, student_BK)
    torch.testing.assert_close(gradient_BK, torch.zeros(1, 4), atol=1e-6, rtol=0)
