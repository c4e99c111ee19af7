from __future__ import annotations

import pytest
import torch

from archsearch.evidence import NetworkEvidence
from archsearch.proxies import Undefined
from archsearch.proxies.semantic import semantic

# K classes, D features


def network(gradient_KD: torch.Tensor) -> NetworkEvidence:
    return NetworkEvidence(torch.zeros(1, 1), (), gradient_KD)


def slow(s_KD: torch.Tensor, t_KD: torch.Tensor) -> float:
    """As defined, with all the D×D matrices."""

    def rows(g_KD: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(g_KD[:, :, None] * g_KD[:, None, :], dim=2)

    return -((rows(s_KD) - rows(t_KD)) ** 2).sum().item() / s_KD.numel()


def test_one_class_by_hand(evidence_of) -> None:
    # cos((3,4), (4,3)) = 24/25 and all signs agree: −2 + 2·24/25. With one sign turned, they agree on average 0.
    s_KD = torch.tensor([[3.0, 4.0]])
    evidence = evidence_of(student=network(s_KD), teacher=network(torch.tensor([[4.0, 3.0]])))
    assert semantic(evidence) == pytest.approx(-0.08, abs=1e-6)
    evidence = evidence_of(student=network(s_KD), teacher=network(torch.tensor([[-4.0, 3.0]])))
    assert semantic(evidence) == pytest.approx(-2, abs=1e-6)


def test_the_closed_form_is_the_definition(evidence_of) -> None:
    generator = torch.Generator().manual_seed(0)
    s_KD, t_KD = (torch.randn(7, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    for mix in (0.0, 0.5, 1.0):
        near_KD = mix * s_KD + (1 - mix) * t_KD
        evidence = evidence_of(student=network(s_KD), teacher=network(near_KD))
        assert semantic(evidence) == pytest.approx(slow(s_KD, near_KD), abs=1e-6)


def test_the_closed_form_is_the_definition_with_dead_features_too(evidence_of) -> None:
    """A ReLU that no image passes leaves a column of zeros, whose rows of E are zero and not of unit length."""
    generator = torch.Generator().manual_seed(0)
    s_KD, t_KD = (torch.randn(7, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    s_KD[:, 3], t_KD[:, 5:8] = 0, 0
    evidence = evidence_of(student=network(s_KD), teacher=network(t_KD))
    assert semantic(evidence) == pytest.approx(slow(s_KD, t_KD), abs=1e-6)


def test_it_is_undefined_between_classifiers_of_unequal_width(evidence_of) -> None:
    with pytest.raises(Undefined, match=r"2 inputs.*5"):
        semantic(evidence_of(student=network(torch.ones(3, 2)), teacher=network(torch.ones(3, 5))))


def test_it_is_undefined_where_nothing_reaches_the_classifier(evidence_of) -> None:
    with pytest.raises(Undefined, match="no feature"):
        semantic(evidence_of(student=network(torch.zeros(3, 2)), teacher=network(torch.ones(3, 2))))
