"""What every registered loss promises, and the worked values of each."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from archsearch.distill.loss import Loss, losses
from archsearch.errors import UnknownName
from archsearch.kernels import softened_kl
from archsearch.request import DistillSpec

# B batch, K classes

SPEC = DistillSpec()


@pytest.fixture(params=losses.names())
def loss(request: pytest.FixtureRequest) -> Loss:
    return losses.get(request.param)


def answers(seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))


LABELS_B = torch.tensor([0, 1, 2, 3, 4, 0])


def test_it_is_documented(loss: Loss) -> None:
    assert len(loss.doc) > 10
    assert loss.source


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_a_finite_scalar_with_a_finite_gradient(loss: Loss, scale: float, dtype: torch.dtype) -> None:
    student_BK = answers(0, scale).to(dtype).requires_grad_()
    value = loss.compute(student_BK, answers(1, scale), LABELS_B, SPEC)
    (gradient_BK,) = torch.autograd.grad(value, student_BK)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert gradient_BK.isfinite().all()
    assert gradient_BK.any()


def test_a_step_against_its_gradient_lowers_it(loss: Loss) -> None:
    student_BK = answers(0).requires_grad_()
    value = loss.compute(student_BK, answers(1), LABELS_B, SPEC)
    (gradient_BK,) = torch.autograd.grad(value, student_BK)
    better = loss.compute((student_BK - 0.1 * gradient_BK).detach(), answers(1), LABELS_B, SPEC)
    assert better < value


def test_it_needs_the_teacher_exactly_when_it_says_so(loss: Loss) -> None:
    values = [loss.compute(answers(0), answers(seed), LABELS_B, SPEC).item() for seed in (1, 2)]
    assert (values[0] != values[1]) is loss.needs_teacher
    if not loss.needs_teacher:
        assert loss.compute(answers(0), None, LABELS_B, SPEC).item() == values[0]


def test_it_does_not_depend_on_the_order_of_the_batch(loss: Loss) -> None:
    order = torch.tensor([5, 3, 1, 0, 2, 4])
    value = loss.compute(answers(0), answers(1), LABELS_B, SPEC)
    torch.testing.assert_close(loss.compute(answers(0)[order], answers(1)[order], LABELS_B[order], SPEC), value)


def test_kd_by_hand() -> None:
    """T = 2, α = 0.8: student undecided, teacher (ln 3 · 2, 0), so p_t = (3/4, 1/4) and p_s = (1/2, 1/2)."""
    spec = DistillSpec(temperature=2.0, alpha=0.8)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    expected = 0.8 * 4 * kl + 0.2 * math.log(2)
    value = losses.get("kd").compute(torch.zeros(1, 2), torch.tensor([[2 * math.log(3), 0.0]]), torch.tensor([1]), spec)
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_kd_lies_between_the_teacher_alone_and_the_labels_alone() -> None:
    kd, student_BK, teacher_BK = losses.get("kd").compute, answers(0), answers(1)
    alone = kd(student_BK, teacher_BK, LABELS_B, DistillSpec(alpha=1.0))
    torch.testing.assert_close(alone, softened_kl(student_BK, teacher_BK, SPEC.temperature))
    labels = kd(student_BK, teacher_BK, LABELS_B, DistillSpec(alpha=0.0))
    torch.testing.assert_close(labels, cross_entropy(student_BK, LABELS_B))


def test_none_is_cross_entropy() -> None:
    value = losses.get("none").compute(answers(0), None, LABELS_B, SPEC)
    torch.testing.assert_close(value, cross_entropy(answers(0), LABELS_B))


def test_an_unknown_loss_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"known: .*kd.*none"):
        losses.get("kdd", field="distill.method")
