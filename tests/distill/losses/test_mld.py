from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.loss import Settings, losses
from archsearch.distill.losses.mld import mld
from archsearch.kernels import label_loss


def test_mld_by_hand(of_logits) -> None:
    """Teacher sure of the first label with 3/4 (logit ln 3) and undecided on the second; the student undecided on both.

    One label costs 3/4·ln 3/2 + 1/4·ln 1/2, the other nothing; a second image that agrees halves the mean.
    """
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    batch = of_logits([[0, 0], [1, 2]], [[math.log(3), 0], [1, 2]], torch.zeros(2, 2))
    assert mld(batch, Settings()).item() == pytest.approx(kl / 2, abs=1e-6)


def test_a_teacher_that_knows_the_labels_teaches_what_they_do(of_logits, answers) -> None:
    """KL with a sure teacher is the cross-entropy with its answers, which are the labels."""
    y_BK = (answers(2) > 0).float()
    value = mld(of_logits(answers(0), 100 * (2 * y_BK - 1), y_BK), Settings())
    torch.testing.assert_close(value, label_loss(answers(0), y_BK))


def test_sure_networks_that_disagree_cost_much_and_not_infinitely_much(of_logits) -> None:
    value = mld(of_logits([[1e4, -1e4]], [[-1e4, 1e4]], torch.zeros(1, 2)), Settings())
    assert value.item() == pytest.approx(2e4)


def test_it_is_for_tasks_with_many_labels_only() -> None:
    assert losses.get("mld").tasks == {"multilabel"}
