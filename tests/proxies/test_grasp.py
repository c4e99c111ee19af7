from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from archsearch.evidence import NetworkEvidence, observe_student
from archsearch.proxies.grasp import grasp

# B batch, K classes, D features


def test_a_linear_net_with_all_of_its_hessian(linear_net) -> None:
    generator = torch.Generator().manual_seed(0)
    weight_KD, x_BD = torch.randn(3, 4, generator=generator), torch.randn(5, 4, generator=generator)
    y_B = torch.tensor([0, 1, 2, 0, 1])

    def loss(flat_P: torch.Tensor) -> torch.Tensor:
        return cross_entropy(x_BD @ flat_P.view(3, 4).T, y_B)

    flat_P = weight_KD.flatten()
    hessian_PP = torch.autograd.functional.hessian(loss, flat_P)
    gradient_P = torch.autograd.functional.jacobian(loss, flat_P)
    student = linear_net(weight_KD)
    evidence = observe_student(student, x_BD, y_B, NetworkEvidence(torch.zeros(5, 3)), {"grasp"})
    assert grasp(evidence) == pytest.approx(-(flat_P @ hessian_PP @ gradient_P).item(), rel=1e-4)


def test_so_with_many_labels(linear_net) -> None:
    generator = torch.Generator().manual_seed(0)
    weight_KD, x_BD = torch.randn(3, 4, generator=generator), torch.randn(5, 4, generator=generator)
    y_BK = torch.tensor([[1.0, 1, 0], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]])

    def loss(flat_P: torch.Tensor) -> torch.Tensor:
        logits_BK = x_BD @ flat_P.view(3, 4).T
        return binary_cross_entropy_with_logits(logits_BK, y_BK, reduction="none").sum(1).mean()

    flat_P = weight_KD.flatten()
    hessian_PP = torch.autograd.functional.hessian(loss, flat_P)
    gradient_P = torch.autograd.functional.jacobian(loss, flat_P)
    student = linear_net(weight_KD)
    evidence = observe_student(student, x_BD, y_BK, NetworkEvidence(torch.zeros(5, 3)), {"grasp"})
    assert grasp(evidence) == pytest.approx(-(flat_P @ hessian_PP @ gradient_P).item(), rel=1e-4)


def test_it_is_what_a_small_step_along_the_gradient_says(single) -> None:
    """Hg is the change of the gradient along g: a central difference in float64."""
    step = 1e-4
    model, x_BCHW = deepcopy(single.model).double(), single.x_BCHW.double()
    weights = [p for p in model.parameters() if p.ndim >= 2]

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(cross_entropy(model(x_BCHW), single.y_B), weights))

    def walk(along: list[torch.Tensor], by: float) -> None:
        with torch.no_grad():
            for weight, direction in zip(weights, along, strict=True):
                weight += by * direction

    start, ahead_behind = gradients(), []
    for by in (step, -2 * step):
        walk(start, by)
        ahead_behind.append(gradients())
    walk(start, step)
    ahead, behind = ahead_behind
    products = [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
    expected = -sum((w * hg).sum().item() for w, hg in zip(weights, products, strict=True))
    assert grasp(single.observe("grasp")) == pytest.approx(expected, rel=1e-3)
