from __future__ import annotations

import pytest
import torch
from torch.nn.functional import kl_div

from archsearch.proxies.kd_snip import kd_snip


def test_a_linear_net_by_hand(linear_evidence) -> None:
    assert kd_snip(linear_evidence) == pytest.approx(abs(3 * -2) + abs(3 * 2), rel=1e-5)


def test_it_is_the_sensitivity_to_switching_weights_off(pair) -> None:
    """SNIP's own definition: the derivative of the loss, here torch's own, to a mask of ones over each weight."""
    student = pair.student().train()
    with torch.no_grad():
        log_t_BK = (pair.teacher(pair.x_BCHW) / 4).log_softmax(1)
    matrices = {name: p.detach() for name, p in student.named_parameters() if p.ndim >= 2}
    masks = {name: torch.ones_like(p, requires_grad=True) for name, p in matrices.items()}
    masked = {name: masks[name] * p for name, p in matrices.items()}
    log_s_BK = (torch.func.functional_call(student, masked, (pair.x_BCHW,)) / 4).log_softmax(1)
    loss = 16 * kl_div(log_s_BK, log_t_BK, log_target=True, reduction="batchmean")
    expected = sum(gradient.abs().sum().item() for gradient in torch.autograd.grad(loss, list(masks.values())))
    assert kd_snip(pair.evidence()) == pytest.approx(expected, rel=1e-3)
