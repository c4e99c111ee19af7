from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from archsearch.evidence import NetworkEvidence, observe_student
from archsearch.proxies.synflow import synflow


def test_a_linear_net_by_hand(linear_net) -> None:
    # R = |−3|·1 + |2|·1 for an input of ones, whatever the image; each weight's share is itself.
    student = linear_net(torch.tensor([[-3.0], [2.0]]))
    teacher = NetworkEvidence(torch.zeros(1, 2))
    evidence = observe_student(student, torch.tensor([[40.0]]), torch.tensor([0]), teacher, {"synflow"})
    assert synflow(evidence) == pytest.approx(5)


def test_it_is_the_flow_that_a_mask_over_each_weight_would_stop(pair) -> None:
    """∂R/∂m for masks of ones over |θ|, on a copy whose norms are plain identities."""
    student = pair.student().double()
    for parent in list(student.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.LayerNorm):
                setattr(parent, name, nn.Identity())
    values = {name: p.detach().abs() for name, p in student.named_parameters()}
    masks = {name: torch.ones_like(p, requires_grad=True) for name, p in values.items() if p.ndim >= 2}
    positive = {name: masks[name] * p if name in masks else p for name, p in values.items()}
    ones_BCHW = torch.ones_like(pair.x_BCHW[:1]).double()
    total = torch.func.functional_call(deepcopy(student), positive, (ones_BCHW,)).sum()
    gradients = torch.autograd.grad(total, list(masks.values()), allow_unused=True)
    expected = sum(gradient.sum().item() for gradient in gradients if gradient is not None)
    assert synflow(pair.evidence()) == pytest.approx(expected, rel=1e-6)
