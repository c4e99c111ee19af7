from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from archsearch.proxies.grad_norm import grad_norm


def test_a_linear_net_by_hand(linear_evidence) -> None:
    assert grad_norm(linear_evidence) == pytest.approx(math.hypot(-1, 1), rel=1e-5)


def test_it_is_what_autograd_says_of_each_matrix(pair) -> None:
    student = pair.student().train()
    loss = cross_entropy(student(pair.x_BCHW), pair.y_B)
    gradients = torch.autograd.grad(loss, [p for p in student.parameters() if p.ndim >= 2])
    assert grad_norm(pair.evidence()) == pytest.approx(sum(g.norm().item() for g in gradients), rel=1e-3)
