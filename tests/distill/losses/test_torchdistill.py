"""Our losses against torchdistill's, where both have one; skipped where it is not installed."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from archsearch.distill.loss import losses

mid_level = pytest.importorskip("torchdistill.losses.mid_level")

LABELS_B = torch.tensor([0, 1, 2, 3, 4, 0])
PLACES = ("logits", "output", "logits", "output")


def theirs(loss: torch.nn.Module, student_BK: torch.Tensor, teacher_BK: torch.Tensor) -> torch.Tensor:
    return loss({"logits": {"output": student_BK}}, {"logits": {"output": teacher_BK}}, LABELS_B)


def ours(name: str, of_logits, student_BK: torch.Tensor, teacher_BK: torch.Tensor) -> torch.Tensor:
    """The whole published objective: labels and teacher in their weights."""
    found = losses.get(name)
    taught = found.weight * found.compute(of_logits(student_BK, teacher_BK, LABELS_B), found.settings())
    return found.labels * cross_entropy(student_BK, LABELS_B) + taught


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("kd", mid_level.KDLoss(*PLACES, temperature=4, alpha=0.1)),
        ("kd_std", mid_level.LogitStdKDLoss(*PLACES, temperature=2, alpha=0.1, beta=9)),
    ],
)
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_objective_and_gradient_are_theirs(of_logits, answers, name: str, loss: torch.nn.Module, scale: float) -> None:
    student_BK, teacher_BK = answers(0, scale=scale).requires_grad_(), answers(1, scale=scale)
    found, expected = ours(name, of_logits, student_BK, teacher_BK), theirs(loss, student_BK, teacher_BK)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(value, student_BK)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_dist_is_theirs_beside_the_labels(of_logits, answers, scale: float) -> None:
    student_BK, teacher_BK = answers(0, scale=scale).requires_grad_(), answers(1, scale=scale)
    loss = mid_level.DISTLoss(*PLACES, beta=2.0, gamma=2.0, tau=4.0)
    found = ours("dist", of_logits, student_BK, teacher_BK)
    expected = cross_entropy(student_BK, LABELS_B) + theirs(loss, student_BK, teacher_BK)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(value, student_BK)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
