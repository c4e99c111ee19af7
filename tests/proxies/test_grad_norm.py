from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import kl_div

from archsearch.proxies.grad_norm import grad_norm


def test_a_linear_net_by_hand(linear_evidence) -> None:
    assert grad_norm(linear_evidence) == pytest.approx(math.hypot(-2, 2), rel=1e-5)


def test_it_is_what_autograd_says_of_torchs_own_loss(pair) -> None:
    student = pair.student().train()
    with torch.no_grad():
        log_t_BK = (pair.teacher(pair.x_BCHW) / 4).log_softmax(1)
    log_s_BK = (student(pair.x_BCHW) / 4).log_softmax(1)
    loss = 16 * kl_div(log_s_BK, log_t_BK, log_target=True, reduction="batchmean")
    matrices = [p for p in student.parameters() if p.ndim >= 2]
    expected = sum(gradient.norm().item() for gradient in torch.autograd.grad(loss, matrices))
    assert grad_norm(pair.evidence()) == pytest.approx(expected, rel=1e-3)
