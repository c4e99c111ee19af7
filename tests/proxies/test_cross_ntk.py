from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from archsearch.evidence import NetworkEvidence, observe_teacher
from archsearch.evidence.observe import PROJECTION_SEED
from archsearch.proxies import Undefined
from archsearch.proxies.cross_ntk import cross_ntk

# B batch, P parameters


def test_it_is_the_alignment_of_gradients_taken_image_by_image(single) -> None:
    """CKA in the feature form of the paper, ‖YᵀX‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F), X and Y both networks' gradients."""
    torch.manual_seed(1)
    other = replace(single, model=type(single.model)())
    seen = observe_teacher(other.model, single.x_BCHW, single.y_B, {"ntk"})
    evidence = replace(single, teacher=seen).observe("ntk")
    sign_K = torch.randint(0, 2, (10,), generator=torch.Generator().manual_seed(PROJECTION_SEED)) * 2.0 - 1
    centred = []
    for network, kernel_BB in ((single, evidence.student.ntk_BB), (other, seen.ntk_BB)):
        gradients = network.gradients(lambda logits_1K, _: (logits_1K * sign_K).sum())
        jacobian_BP = torch.stack([torch.cat([g.flatten() for g in layers.values()]) for layers in gradients])
        torch.testing.assert_close(kernel_BB, jacobian_BP @ jacobian_BP.T, rtol=1e-4, atol=1e-4)
        centred.append(jacobian_BP - jacobian_BP.mean(0))
    s_BP, t_BP = centred
    expected = (t_BP.T @ s_BP).square().sum() / ((s_BP.T @ s_BP).norm() * (t_BP.T @ t_BP).norm())
    assert cross_ntk(evidence) == pytest.approx(expected.item(), rel=1e-3)


def test_it_is_undefined_without_a_kernel(evidence_of) -> None:
    dead = NetworkEvidence(torch.zeros(2, 2))
    with pytest.raises(Undefined, match="no gradient"):
        cross_ntk(evidence_of(student=dead, teacher=dead))
