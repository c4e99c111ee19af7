from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.loss import Settings
from archsearch.distill.losses.none import none


def test_none_by_hand(of_logits) -> None:
    """Student (ln 3, 0), so p = (3/4, 1/4): labels 0 and 1 cost ln 4/3 and ln 4."""
    value = none(of_logits([[math.log(3), 0]] * 2, y=[0, 1]), Settings())
    assert value.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


def test_none_asks_label_by_label_where_there_are_many(of_logits) -> None:
    """Each label is a question of its own: logits (ln 3, ln 3) are right with 3/4 on one and 1/4 on the other."""
    value = none(of_logits([[math.log(3)] * 2], y=torch.tensor([[1.0, 0.0]])), Settings())
    assert value.item() == pytest.approx(math.log(4 / 3) + math.log(4))
