from __future__ import annotations

import pytest
import torch

from archsearch.evidence import NetworkEvidence
from archsearch.proxies import Undefined
from archsearch.proxies.cka import cka

# B batch, D features


def network(*grams_BB: torch.Tensor) -> NetworkEvidence:
    return NetworkEvidence(torch.zeros(1, 1), grams_BB)


def test_two_stages_by_hand(evidence_of) -> None:
    # Three samples with features 1, 0, 0 against 0, 1, 1: centred they are opposite, and Gram matrices forget signs.
    # Against 0, 1, 0: centred (2, −1, −1)/3 and (−1, 2, −1)/3 have cosine −1/2; the likeness is its square.
    first, opposite, other = (torch.tensor(v)[:, None] for v in ([1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 0.0]))
    student = network(first @ first.T, first @ first.T)
    teacher = network(opposite @ opposite.T, other @ other.T)
    assert cka(evidence_of(student=student, teacher=teacher)) == pytest.approx((1 + 0.25) / 2, abs=1e-6)


def test_it_is_the_feature_form_of_the_paper(evidence_of) -> None:
    """‖YᵀX‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) of centred features, without any B×B matrix."""
    generator = torch.Generator().manual_seed(0)
    x_BD, y_BD = torch.randn(6, 3, generator=generator), torch.randn(6, 5, generator=generator)
    found = cka(evidence_of(student=network(x_BD @ x_BD.T), teacher=network(y_BD @ y_BD.T)))
    x_BD, y_BD = x_BD - x_BD.mean(0), y_BD - y_BD.mean(0)
    expected = (y_BD.T @ x_BD).norm() ** 2 / ((x_BD.T @ x_BD).norm() * (y_BD.T @ y_BD).norm())
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_a_network_that_is_its_own_teacher_is_perfectly_alike(pair) -> None:
    evidence = pair.evidence()
    own = type(evidence)(evidence.layers, 0, 0, evidence.batch_size, evidence.student, evidence.measured)
    assert cka(own) == pytest.approx(1, abs=1e-5)


def test_without_stages_it_is_undefined(evidence_of) -> None:
    with pytest.raises(Undefined, match="no stages"):
        cka(evidence_of(student=network(torch.eye(2))))
