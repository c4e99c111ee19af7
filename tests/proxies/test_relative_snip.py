from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from archsearch.evidence import TEMPERATURE, Evidence
from archsearch.kernels import softened_kl
from archsearch.proxies import Undefined
from archsearch.proxies.relative_snip import relative_snip


def times(evidence: Evidence, factor: float) -> Evidence:
    """The evidence a loss so many times larger would leave."""
    gradients = tuple(replace(w, gradient=factor * w.gradient) for w in evidence.gradients)
    return replace(evidence, measured={**evidence.measured, "gradients": gradients})


def test_a_linear_net_by_hand(linear_evidence) -> None:
    assert relative_snip(linear_evidence) == pytest.approx(12 / math.sqrt(8), rel=1e-5)


def test_it_is_what_autograd_says_of_all_weights_together(pair) -> None:
    student = pair.student().train()
    with torch.no_grad():
        teacher_BK = pair.teacher(pair.x_BCHW)
    matrices = [p for p in student.parameters() if p.ndim >= 2]
    gradients = torch.autograd.grad(softened_kl(student(pair.x_BCHW), teacher_BK, TEMPERATURE), matrices)
    theta, gradient = (torch.cat([value.flatten() for value in values]) for values in (matrices, gradients))
    expected = (theta * gradient).abs().sum() / gradient.norm()
    assert relative_snip(pair.evidence()) == pytest.approx(expected.item(), rel=1e-3)


def test_the_size_of_the_loss_does_not_matter(pair) -> None:
    assert relative_snip(times(pair.evidence(), 7)) == pytest.approx(relative_snip(pair.evidence()), rel=1e-5)


def test_it_is_undefined_without_a_gradient(pair) -> None:
    with pytest.raises(Undefined, match="no gradient"):
        relative_snip(times(pair.evidence(), 0))
