from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from archsearch.proxies.hm import hm


def test_a_small_net_by_hand(evidence_of, layers) -> None:
    # A 3×3 convolution 3→16 has 27 inputs; of 32 channels in 4 groups each 8 have 72; a depthwise one has 9 for each
    # channel; a matrix 16→32 has 16. The classifier does not count.
    expected = 27 * 16 / 43 + 4 * (72 * 8 / 80) + 32 * (9 * 1 / 10) + 16 * 32 / 48
    assert hm(evidence_of(layers)) == pytest.approx(expected)


def test_it_saturates_where_parameters_do_not(evidence_of, layers) -> None:
    """Ten times as wide an MLP on 64 channels: ten times the parameters, and less than twice the hm."""
    narrow, wide = (evidence_of((replace(layers[3], d_in=64, d_out=width),)) for width in (64, 640))
    assert hm(wide) / hm(narrow) == pytest.approx((64 * 640 / 704) / 32)


def test_it_is_that_of_a_real_students_shapes(pair) -> None:
    student, expected = pair.student(), 0.0
    for module in student.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module is not student.get_classifier():
            groups = getattr(module, "groups", 1)
            outputs, inputs = len(module.weight) / groups, module.weight[0].numel()
            expected += groups / (1 / outputs + 1 / inputs)
    assert hm(pair.evidence()) == pytest.approx(expected)
