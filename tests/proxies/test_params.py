from __future__ import annotations

from torch import nn

from archsearch.proxies.params import params


def test_a_small_net_by_hand(evidence_of, layers) -> None:
    assert params(evidence_of(layers)) == 16 * 27 + 32 * 72 + 32 * 9 + 32 * 16


def test_it_is_that_of_a_real_students_matrices(pair) -> None:
    student = pair.student()
    matrices = [m.weight.numel() for m in student.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert params(pair.evidence()) == sum(matrices) - student.get_classifier().weight.numel()
