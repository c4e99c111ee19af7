"""Every registered loss keeps the contract; worked values are in losses/, one file a loss."""

# B batch, K classes

from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.loss import losses
from archsearch.errors import UnknownName
from archsearch.kernels import label_loss
from archsearch.testing import LossContract


class TestEveryLoss(LossContract):
    losses = tuple(losses)
    # Where there is one place to look at, all networks look there.
    indifferent = (("at", "one stage of one value"),)


@pytest.mark.parametrize("name", ["at", "sp", "fitnet", "rkd", "crd", "reviewkd", "catkd", "fam", "pkd"])
def test_losses_without_labels_serve_multi_label_tasks(name: str) -> None:
    assert losses.get(name).tasks == {"classification", "multilabel"}


def test_a_softmax_and_labels_that_teach_the_stones_are_for_one_label() -> None:
    assert losses.get("blockwise").tasks == {"classification"}


def test_an_unknown_loss_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'dkd'"):
        losses.get("dkdd", field="distill.method")


def test_the_labels_loss_by_hand() -> None:
    """Logits (ln 3, 0): with one label p = (3/4, 1/4); with many, labels are asked one by one, 3/4 and 1/2.

    Images are averaged, the labels of one are summed.
    """
    logits_BK = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    one = (math.log(4 / 3) + math.log(4)) / 2
    assert label_loss(logits_BK, torch.tensor([0, 1])).item() == pytest.approx(one)
    many = (math.log(4 / 3) + math.log(2) + math.log(4) + math.log(2)) / 2
    assert label_loss(logits_BK, torch.tensor([[1.0, 0.0], [0.0, 1.0]])).item() == pytest.approx(many)
