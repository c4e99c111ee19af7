from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.loss import LossInputs, Outputs, Settings, Stage, losses
from archsearch.distill.losses.l2d import L2D, l2d
from archsearch.distill.losses.l2d_class import l2d_class
from archsearch.distill.losses.l2d_instance import l2d_instance
from archsearch.distill.losses.mld import mld

# B batch, D features, H W space, K labels


def outputs(seed: int, channels: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    logits_BK, map_BDHW = torch.randn(6, 4, generator=generator), torch.randn(6, channels, 3, 3, generator=generator)
    weight_KD = torch.randn(4, channels, generator=generator)
    return Outputs(logits_BK, (Stage(map_BDHW),), map_BDHW.mean((2, 3)), weight_KD)


@pytest.fixture
def batch() -> LossInputs:
    y_BK = (torch.rand(6, 4, generator=torch.Generator().manual_seed(2)) < 0.7).float()
    return LossInputs(outputs(0, 5), outputs(1, 8), y_BK, torch.arange(6))


def test_it_is_the_sum_of_the_three_in_the_published_weights(batch) -> None:
    parts = [found(batch, Settings()) for found in (mld, l2d_class, l2d_instance)]
    weights = [losses.get(name).weight for name in ("mld", "l2d_class", "l2d_instance")]
    assert weights == [10 / 64, 100, 1000]
    torch.testing.assert_close(l2d(batch, L2D()), sum(w * part for w, part in zip(weights, parts, strict=True)))


@pytest.mark.parametrize(("name", "alone"), [("logits", mld), ("classes", l2d_class), ("instances", l2d_instance)])
def test_each_part_can_be_had_alone(batch, name: str, alone) -> None:
    settings = L2D(**{"logits": 0, "classes": 0, "instances": 0, name: 2})
    torch.testing.assert_close(l2d(batch, settings), 2 * alone(batch, Settings()))


def test_l2d_by_hand() -> None:
    """One image: no label has two, and one channel and one position make a label's embedding its weight times the map.

    Logits: the teacher is sure with 3/4 of label 0 and undecided elsewhere, the student undecided: 3/4·ln 3/2 + 1/4·ln
    1/2. Embeddings at 0, 1, 3 (student) and 0, 2, 3 (teacher): 4·1/8 over 3 labels, as in the instance-aware loss.
    """
    one = torch.ones(1, 1, 1, 1)
    student = Outputs(torch.zeros(1, 3), (Stage(one),), one.flatten(1), torch.tensor([[0.0], [1.0], [3.0]]))
    teacher = Outputs(
        torch.tensor([[math.log(3), 0, 0]]), (Stage(one),), one.flatten(1), torch.tensor([[0.0], [2.0], [3.0]])
    )
    value = l2d(LossInputs(student, teacher, torch.ones(1, 3), torch.arange(1)), L2D())
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert value.item() == pytest.approx(10 / 64 * kl + 1000 * 4 / 8 / 3, rel=1e-5)


def test_it_is_for_tasks_with_many_labels_only() -> None:
    assert losses.get("l2d").tasks == {"multilabel"}
