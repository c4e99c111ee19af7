from __future__ import annotations

import pytest
import torch

from archsearch.kernels import softened_kl
from archsearch.proxies.evidence import TEMPERATURE
from archsearch.proxies.snip import snip


def test_a_linear_net_by_hand(linear_evidence) -> None:
    assert snip(linear_evidence) == pytest.approx(abs(3 * -2) + abs(3 * 2), rel=1e-5)


def test_it_is_the_sensitivity_to_switching_weights_off(pair) -> None:
    """SNIP's own definition: the derivative of the loss to a mask of ones over each weight."""
    student = pair.student().train()
    with torch.no_grad():
        teacher_BK = pair.teacher(pair.x_BCHW)
    matrices = {name: p.detach() for name, p in student.named_parameters() if p.ndim >= 2}
    masks = {name: torch.ones_like(p, requires_grad=True) for name, p in matrices.items()}
    masked = {name: masks[name] * p for name, p in matrices.items()}
    logits_BK = torch.func.functional_call(student, masked, (pair.x_BCHW,))
    gradients = torch.autograd.grad(softened_kl(logits_BK, teacher_BK, TEMPERATURE), list(masks.values()))
    expected = sum(gradient.abs().sum().item() for gradient in gradients)
    assert snip(pair.evidence()) == pytest.approx(expected, rel=1e-3)
