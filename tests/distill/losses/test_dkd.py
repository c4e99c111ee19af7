from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.loss import losses
from archsearch.distill.losses.dkd import DKD, dkd
from archsearch.kernels import softened_kl

LABELS_B = [0, 1, 2, 3, 4, 0]


def test_dkd_by_hand(of_logits) -> None:
    """T = 1, label 0: student undecided, teacher (ln 4, ln 3, 0), so p_t = (1/2, 3/8, 1/8) and p_s = 1/3 each.

    TCKD: (1/2, 1/2) against (1/3, 2/3). NCKD: the others among themselves, (3/4, 1/4) against (1/2, 1/2).
    """
    tckd = 0.5 * math.log(3 / 2) + 0.5 * math.log(3 / 4)
    nckd = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    batch = of_logits([[0, 0, 0]], [[math.log(4), math.log(3), 0]], [0])
    assert dkd(batch, DKD(temperature=1)).item() == pytest.approx(tckd + 8 * nckd, abs=1e-6)
    assert dkd(batch, DKD(temperature=1, alpha=3, beta=0)).item() == pytest.approx(3 * tckd, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_hintons_divergence_is_its_parts_weighed_by_the_teachers_doubt(of_logits, answers, temperature: float) -> None:
    """Eq. 6: KL = TCKD + (1 - p_t)·NCKD, image by image."""
    for i, label in enumerate(LABELS_B):
        student_BK, teacher_BK = answers(0)[i : i + 1], answers(1)[i : i + 1]
        doubt = 1 - (teacher_BK / temperature).softmax(1)[0, label].item()
        value = dkd(of_logits(student_BK, teacher_BK, [label]), DKD(temperature=temperature, beta=doubt))
        torch.testing.assert_close(value, softened_kl(student_BK, teacher_BK, temperature), rtol=1e-4, atol=1e-5)


def test_it_rises_to_its_size_in_a_twelfth_of_the_training(of_logits, answers) -> None:
    def at(done: float, **settings: float) -> float:
        return dkd(of_logits(answers(0), answers(1), LABELS_B, done), DKD(**settings)).item()

    assert at(0.0) == 0
    assert at(1 / 24) == pytest.approx(at(1.0) / 2)
    assert at(1 / 12) == at(0.5) == at(1.0)
    assert at(0.0, warmup=0.0) == at(1.0)
    assert at(0.5, warmup=1.0) == pytest.approx(at(1.0) / 2)


def test_sure_networks_that_disagree_cost_much_and_not_infinitely_much(of_logits) -> None:
    student_BK = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    value = dkd(of_logits(student_BK, [[-1e4, 0.0, 1e4]], [0]), DKD())
    (gradient_BK,) = torch.autograd.grad(value, student_BK)
    assert 1e4 < value.item() < 1e6
    assert gradient_BK.isfinite().all()
    assert gradient_BK[0, 0] > 0


def test_two_classes_are_refused_because_the_other_is_alone(of_logits, two_classes) -> None:
    assert "use kd" in (losses.get("dkd").refuse(two_classes) or "")
    assert dkd(of_logits([[3.0, -1.0]], [[-2.0, 2.0]], [0]), DKD(alpha=0)).item() == 0
