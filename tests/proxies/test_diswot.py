from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from archsearch.evidence import NetworkEvidence
from archsearch.proxies import Undefined
from archsearch.proxies.diswot import diswot

# B batch, K classes, D features


def test_it_is_the_sum_of_both_definitions(evidence_of) -> None:
    generator = torch.Generator().manual_seed(0)
    s_KD, t_KD = (torch.randn(4, 6, generator=generator) for _ in range(2))
    s_BD, t_BD = (torch.randn(5, 8, generator=generator) for _ in range(2))
    student, teacher = (
        NetworkEvidence(torch.zeros(1, 1), (torch.eye(5), f_BD @ f_BD.T), g_KD)
        for f_BD, g_KD in ((s_BD, s_KD), (t_BD, t_KD))
    )
    s_KDD, t_KDD = (normalize(g_KD[:, :, None] * g_KD[:, None, :], dim=2) for g_KD in (s_KD, t_KD))
    s_BB, t_BB = (normalize(f_BD @ f_BD.T, dim=1) for f_BD in (s_BD, t_BD))
    expected = -(s_KDD - t_KDD).square().sum() / s_KD.numel() - (s_BB - t_BB).square().sum() / 25
    assert diswot(evidence_of(student=student, teacher=teacher)) == pytest.approx(expected.item(), rel=1e-5)


def test_it_is_undefined_between_classifiers_of_unequal_width(evidence_of) -> None:
    student, teacher = (NetworkEvidence(torch.zeros(1, 1), (torch.eye(2),), torch.ones(3, d)) for d in (2, 5))
    with pytest.raises(Undefined, match=r"2 inputs.*5"):
        diswot(evidence_of(student=student, teacher=teacher))
