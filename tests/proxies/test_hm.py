from __future__ import annotations

import pytest

from archsearch.proxies.hm import hm


def test_a_small_net_by_hand(evidence_of) -> None:
    # A 3×3 convolution 3→16 has 27 inputs; a matrix 16→32 has 16. The classifier does not count.
    evidence = evidence_of(shapes={"conv": (16, 3, 3, 3), "mlp": (32, 16), "head": (10, 32)})
    assert hm(evidence) == pytest.approx(27 * 16 / 43 + 16 * 32 / 48)


def test_it_saturates_where_parameters_do_not(evidence_of) -> None:
    """Ten times as wide an MLP on 64 channels: ten times the parameters, and less than twice the hm."""
    narrow, wide = (evidence_of(shapes={"mlp": (width, 64)}) for width in (64, 640))
    assert hm(wide) / hm(narrow) == pytest.approx((64 * 640 / 704) / 32)


def test_it_is_that_of_a_real_students_shapes(pair) -> None:
    student = pair.student()
    head = student.get_classifier().weight
    shapes = [(p.shape[0], p[0].numel()) for p in student.parameters() if p.ndim >= 2 and p is not head]
    assert hm(pair.evidence()) == pytest.approx(sum(1 / (1 / a + 1 / b) for a, b in shapes))
