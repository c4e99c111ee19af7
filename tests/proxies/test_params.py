from __future__ import annotations

import pytest

from archsearch.proxies.params import params


def test_a_small_net_by_hand(evidence_of) -> None:
    evidence = evidence_of(shapes={"conv": (16, 3, 3, 3), "mlp": (32, 16), "head": (10, 32)})
    assert params(evidence) == 16 * 27 + 32 * 16


def test_it_is_that_of_a_real_students_matrices(pair) -> None:
    student = pair.student()
    every = sum(p.numel() for p in student.parameters() if p.ndim >= 2)
    assert params(pair.evidence()) == pytest.approx(every - student.get_classifier().weight.numel())
