from __future__ import annotations

import math

import pytest

from archsearch.distill.losses.kd import KD, kd
from archsearch.kernels import softened_kl


def test_kd_by_hand(of_logits) -> None:
    """T = 2: student undecided, teacher (ln 3 · 2, 0), so p_t = (3/4, 1/4) and p_s = (1/2, 1/2)."""
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    value = kd(of_logits([[0, 0]], [[2 * math.log(3), 0]]), KD(temperature=2))
    assert value.item() == pytest.approx(4 * kl, abs=1e-6)


def test_kd_is_the_softened_divergence_at_four(of_logits, answers) -> None:
    assert kd(of_logits(answers(0), answers(1)), KD()).equal(softened_kl(answers(0), answers(1), 4.0))
