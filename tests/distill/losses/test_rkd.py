from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize, smooth_l1_loss

from archsearch.distill.loss import LossInputs, Outputs, losses
from archsearch.distill.losses.rkd import RKD

# B batch, D features; J×I×K samples of the batch, J at the vertex

rkd = losses.get("rkd")
DISTANCE, ANGLE = RKD(distance=1, angle=0), RKD(distance=0, angle=1)
# Three points on a line, and an equilateral triangle.
LINE, TRIANGLE = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]])


def value(student_BD: torch.Tensor, teacher_BD: torch.Tensor, settings: RKD) -> torch.Tensor:
    size = len(student_BD)
    outputs = [Outputs(torch.zeros(size, 2), embedding_BD=e) for e in (student_BD, teacher_BD)]
    return rkd.compute(
        LossInputs(outputs[0], outputs[1], torch.zeros(size, dtype=torch.long), torch.arange(size)), settings
    )


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_distances_by_hand() -> None:
    """Distances 1, 2, 3 over their mean 2 are ½, 1, 1½, the triangle's 1: Huber ⅛ for two pairs both ways, of 9."""
    assert value(LINE, TRIANGLE, DISTANCE).item() == pytest.approx(4 / 8 / 9, abs=1e-6)


def test_angles_by_hand() -> None:
    """On the line cosines are 1, −1 and 1, in the triangle ½: Huber ⅛, 1½ − ½ and ⅛, each twice, of 27."""
    assert value(LINE, TRIANGLE, ANGLE).item() == pytest.approx(2 * 1.25 / 27, abs=1e-6)


def test_published_weights() -> None:
    expected = 25 * value(LINE, TRIANGLE, DISTANCE) + 50 * value(LINE, TRIANGLE, ANGLE)
    torch.testing.assert_close(value(LINE, TRIANGLE, RKD()), expected)
    assert (rkd.weight, rkd.labels) == (1, 1)


def by_differences(student_BD: torch.Tensor, teacher_BD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both parts as the paper writes them, in float64: from the differences of the embeddings."""
    cosines, distances = [], []
    for e_BD in (student_BD.double(), teacher_BD.double()):
        difference_JID = e_BD[None] - e_BD[:, None]
        unit_JID = normalize(difference_JID, dim=2)
        cosines.append(unit_JID @ unit_JID.transpose(1, 2))
        distance_BB = difference_JID.norm(dim=2)
        distances.append(distance_BB / (distance_BB.sum() / (len(e_BD) * (len(e_BD) - 1))))
    return smooth_l1_loss(*distances).float(), smooth_l1_loss(*cosines).float()


def test_it_is_the_formula_of_differences() -> None:
    student_BD, teacher_BD = random(7, 5), random(7, 9, seed=1)
    distance, angle = by_differences(student_BD, teacher_BD)
    torch.testing.assert_close(value(student_BD, teacher_BD, DISTANCE), distance)
    torch.testing.assert_close(value(student_BD, teacher_BD, ANGLE), angle)


def test_samples_that_are_the_same_are_at_no_distance_and_make_no_angle() -> None:
    """Not what rounding leaves of their difference, which would point anywhere."""
    student_BD, teacher_BD = 1e3 * random(7, 64)[[0, 1, 2, 2, 2, 3]] + 1e3, random(6, 9, seed=1)
    distance, angle = by_differences(student_BD, teacher_BD)
    torch.testing.assert_close(value(student_BD, teacher_BD, DISTANCE), distance, rtol=1e-4, atol=0)
    torch.testing.assert_close(value(student_BD, teacher_BD, ANGLE), angle, rtol=1e-4, atol=0)


def test_it_forgets_scale_offset_and_rotation() -> None:
    e_BD = random(6, 4)
    moved = 30 * e_BD @ torch.linalg.qr(random(4, 4, seed=1)).Q + 100
    assert value(moved, e_BD, RKD()).item() == pytest.approx(0, abs=1e-6)
    assert value(random(6, 4, seed=2), e_BD, RKD()).item() > 1


def test_samples_that_are_the_same_give_finite_gradients() -> None:
    e_BD = random(6, 4)
    student_BD = e_BD[[0, 1, 2, 2, 2, 3]].clone().requires_grad_()
    value(student_BD, e_BD, RKD()).backward()
    assert student_BD.grad is not None
    assert student_BD.grad.isfinite().all()
    assert 0 < student_BD.grad.abs().max() < 100


@pytest.mark.parametrize("point", [0.0, 5.0, 1e3])
def test_a_student_to_whom_all_are_the_same_gets_no_nan(point: float) -> None:
    student_BD = torch.full((4, 3), point, requires_grad=True)
    found = value(student_BD, random(4, 3), RKD())
    found.backward()
    assert found.isfinite()
    assert student_BD.grad is not None
    assert student_BD.grad.isfinite().all()


@pytest.mark.parametrize("size", [1, 2])
def test_one_or_two_samples_have_no_relations_to_learn(size: int) -> None:
    student_BD = random(size, 3).requires_grad_()
    found = value(student_BD, random(size, 5, seed=1), RKD())
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-6)
    assert student_BD.grad is not None
    assert student_BD.grad.abs().max() < 1e-4
