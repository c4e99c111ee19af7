from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from archsearch.proxies.snip import snip


def test_a_linear_net_by_hand(linear_evidence) -> None:
    assert snip(linear_evidence) == pytest.approx(abs(3 * -1) + abs(3 * 1), rel=1e-5)


def test_it_is_the_sensitivity_to_switching_weights_off(pair) -> None:
    """SNIP's own definition: the derivative of the loss to a mask of ones over each weight."""
    student = pair.student().train()
    matrices = {name: p.detach() for name, p in student.named_parameters() if p.ndim >= 2}
    masks = {name: torch.ones_like(p, requires_grad=True) for name, p in matrices.items()}
    masked = {name: masks[name] * p for name, p in matrices.items()}
    loss = cross_entropy(torch.func.functional_call(student, masked, (pair.x_BCHW,)), pair.y_B)
    expected = sum(gradient.abs().sum().item() for gradient in torch.autograd.grad(loss, list(masks.values())))
    assert snip(pair.evidence()) == pytest.approx(expected, rel=1e-3)
