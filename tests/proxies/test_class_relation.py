from __future__ import annotations

import pytest
import torch

from archsearch.evidence import NetworkEvidence
from archsearch.proxies import Undefined
from archsearch.proxies.class_relation import class_relation

# K classes, D features


def network(gradient_KD: torch.Tensor) -> NetworkEvidence:
    return NetworkEvidence(torch.zeros(1, 1), head_gradient_KD=gradient_KD)


def test_three_classes_by_hand(evidence_of) -> None:
    # One feature: gradients (1, 0, 0) and (0, 1, 0), centred, have cosine −1/2; the likeness is its square.
    student, teacher = network(torch.tensor([[1.0], [0.0], [0.0]])), network(torch.tensor([[0.0], [1.0], [0.0]]))
    assert class_relation(evidence_of(student=student, teacher=teacher)) == pytest.approx(0.25, abs=1e-6)


def test_it_is_linear_cka_of_the_classes_whatever_the_widths(evidence_of) -> None:
    generator = torch.Generator().manual_seed(0)
    s_KD, t_KD = torch.randn(6, 3, generator=generator), torch.randn(6, 5, generator=generator)
    found = class_relation(evidence_of(student=network(s_KD), teacher=network(t_KD)))
    s_KD, t_KD = s_KD - s_KD.mean(0), t_KD - t_KD.mean(0)
    expected = (t_KD.T @ s_KD).norm() ** 2 / ((s_KD.T @ s_KD).norm() * (t_KD.T @ t_KD).norm())
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_it_is_undefined_where_nothing_reaches_the_classifier(evidence_of) -> None:
    with pytest.raises(Undefined, match="no feature"):
        class_relation(evidence_of(student=network(torch.zeros(3, 2)), teacher=network(torch.ones(3, 2))))
