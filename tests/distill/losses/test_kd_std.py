from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.loss import losses
from archsearch.distill.losses.kd_std import KDStd, kd_std


def test_kd_std_by_hand(of_logits) -> None:
    """Deviations of (1, 0, -1) and (2, -1, -1) are 1 and √3, so they become (1, 0, -1) and (2, -1, -1)/√3.

    At T = 1 the answers are (e, 1, 1/e) and (e^(2/√3), e^(-1/√3), e^(-1/√3)), each over its sum.
    """
    s = [math.exp(x) for x in (1, 0, -1)]
    t = [math.exp(x / math.sqrt(3)) for x in (2, -1, -1)]
    expected = sum(b / sum(t) * math.log((b / sum(t)) / (a / sum(s))) for a, b in zip(s, t, strict=True))
    value = kd_std(of_logits([[1, 0, -1]], [[2, -1, -1]]), KDStd(temperature=1))
    assert value.item() == pytest.approx(expected, abs=1e-6)
    # The softened gap shrinks and T² makes up for it: at T = 2 it is 4 times the divergence of the halved logits.
    s, t = [x**0.5 for x in s], [x**0.5 for x in t]
    expected = 4 * sum(b / sum(t) * math.log((b / sum(t)) / (a / sum(s))) for a, b in zip(s, t, strict=True))
    assert kd_std(of_logits([[1, 0, -1]], [[2, -1, -1]]), KDStd()).item() == pytest.approx(expected, abs=1e-6)


def test_size_and_shift_of_the_logits_do_not_matter(of_logits, answers) -> None:
    value = kd_std(of_logits(answers(0), answers(1)), KDStd())
    moved = kd_std(of_logits(7 * answers(0) - 3, 0.1 * answers(1) + 5), KDStd())
    torch.testing.assert_close(moved, value, rtol=1e-4, atol=1e-6)
    assert kd_std(of_logits(7 * answers(0) - 3, answers(0)), KDStd()).item() == pytest.approx(0, abs=1e-5)


def test_equal_logits_have_a_finite_gradient(of_logits, answers) -> None:
    student_BK = torch.zeros(6, 5, requires_grad=True)
    value = kd_std(of_logits(student_BK, answers(1)), KDStd())
    (gradient_BK,) = torch.autograd.grad(value, student_BK)
    assert value.isfinite()
    assert gradient_BK.isfinite().all()


def test_two_classes_are_refused_because_nothing_is_left_of_them(of_logits, two_classes) -> None:
    assert "use kd" in (losses.get("kd_std").refuse(two_classes) or "")
    sure, unsure = [[9.0, -9.0]], [[0.1, 0.0]]
    assert kd_std(of_logits(sure, unsure), KDStd()).item() == pytest.approx(0, abs=1e-5)
