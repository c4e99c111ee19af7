from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.losses.tf_kd import TfKD, tf_kd


def test_tf_kd_by_hand(of_logits) -> None:
    """a = 1/2, T = 1/4: virtual probabilities (1/2, 1/4, 1/4) become exp (2, 1, 1) over its sum; student undecided."""
    label, other = math.e / (math.e + 2), 1 / (math.e + 2)
    expected = label * math.log(3 * label) + 2 * other * math.log(3 * other)
    value = tf_kd(of_logits([[0, 0, 0]], y=[0]), TfKD(correct=0.5, temperature=0.25))
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_the_virtual_teacher_is_right_and_even_about_the_rest(of_logits) -> None:
    """The loss vanishes for the student that answers the same: at T = 20 almost undecided, for the label a little."""
    label, other = math.exp(0.99 / 20), math.exp(0.01 / 3 / 20)
    virtual_BK = torch.tensor([[other, label, other, other]]).log().requires_grad_()
    value = tf_kd(of_logits(virtual_BK, y=[1]), TfKD())
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert tf_kd(of_logits(virtual_BK, y=[0]), TfKD()).item() > 1e-4
