from __future__ import annotations

import math

import pytest
import torch

from archsearch.evidence import NetworkEvidence
from archsearch.proxies import Undefined
from archsearch.proxies.kernel_ridge import kernel_ridge

# B batch, K classes, P parameters


def evidence(make, kernel_BB: torch.Tensor | None, answer_BK: torch.Tensor):
    student = NetworkEvidence(torch.zeros_like(answer_BK), ntk_BB=kernel_BB)
    return make(student=student, teacher=NetworkEvidence(answer_BK), batch_size=len(answer_BK))


def test_images_that_say_nothing_of_one_another_by_hand(evidence_of) -> None:
    # With K = I each image is told 0 from the others: the error is the variance.
    answer_BK = torch.tensor([[1.0, 0.0], [-1.0, 2.0], [0.0, 5.0]])
    assert kernel_ridge(evidence(evidence_of, torch.eye(3), answer_BK)) == pytest.approx(0, abs=1e-6)


def test_two_images_that_are_alike_by_hand(evidence_of) -> None:
    # K = ((1, 1), (1, 1)), λ = 0.1, answers ±1: one image tells the other −1/1.1 where 1 is right.
    found = kernel_ridge(evidence(evidence_of, torch.ones(2, 2), torch.tensor([[1.0], [-1.0]])))
    assert found == pytest.approx(-math.log((1 + 1 / 1.1) ** 2), rel=1e-5)


def test_it_is_the_error_of_leaving_images_out_one_by_one(evidence_of) -> None:
    generator = torch.Generator().manual_seed(0)
    jacobian_BP = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    kernel_BB, answer_BK = jacobian_BP @ jacobian_BP.T, torch.randn(7, 3, generator=generator, dtype=torch.float64)
    ridge = 0.1 * kernel_BB.trace() / 7
    centred_BK, errors = answer_BK - answer_BK.mean(0), []
    for i in range(7):
        rest = [j for j in range(7) if j != i]
        inner_BB = kernel_BB[rest][:, rest] + ridge * torch.eye(6, dtype=torch.float64)
        told_K = kernel_BB[i, rest] @ torch.linalg.solve(inner_BB, centred_BK[rest])
        errors.append((told_K - centred_BK[i]).square())
    expected = -(torch.stack(errors).mean() / centred_BK.square().mean()).log()
    assert kernel_ridge(evidence(evidence_of, kernel_BB, answer_BK)) == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("kernel_BB", [None, torch.zeros(2, 2)])
def test_it_is_undefined_without_gradients(evidence_of, kernel_BB: torch.Tensor | None) -> None:
    with pytest.raises(Undefined, match="no gradient"):
        kernel_ridge(evidence(evidence_of, kernel_BB, torch.eye(2)))
