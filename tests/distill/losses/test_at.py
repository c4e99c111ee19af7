from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.loss import LossInputs, Outputs, Settings, Stage, losses

# B batch, C channels, H W space

at = losses.get("at")


def value(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    size = len(student[0])
    outputs = [Outputs(torch.zeros(size, 2), tuple(map(Stage, maps))) for maps in (student, teacher)]
    return at.compute(
        LossInputs(outputs[0], outputs[1], torch.zeros(size, dtype=torch.long), torch.arange(size)), Settings()
    )


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_two_stages_by_hand() -> None:
    """Stage one: the student's two channels (√6, 2) and (0, 2) have mean squares (3, 4), of unit length (0.6, 0.8).

    The teacher's single channel (1, 0) is (1, 0) already: squared differences 0.16 and 0.64, mean 0.4.
    Stage two: (0, 1) against (1, 0), mean 1.
    """
    student = torch.tensor([[[[math.sqrt(6), 2.0]], [[0.0, 2.0]]]])
    teacher = torch.tensor([[[[1.0, 0.0]]]])
    opposite = torch.tensor([[[[0.0, 1.0]]]])
    assert value([student], [teacher]).item() == pytest.approx(0.4, abs=1e-6)
    assert value([student, opposite], [teacher, teacher]).item() == pytest.approx(1.4, abs=1e-6)
    assert (at.weight, at.labels) == (1000, 1)


def test_attention_maps_are_averaged_to_the_smaller_resolution() -> None:
    """The teacher's squares (1, 5 | 0, 8) become (3, 4) and so (0.6, 0.8), the student's (1, 0): 0.4 again.

    Averaging the maps themselves first would give ((1 + √5) / 2)² = 2.6 instead of 3.
    """
    teacher = torch.tensor([[[[1.0, math.sqrt(5), 0.0, math.sqrt(8)]]]])
    student = torch.tensor([[[[1.0, 0.0]]]])
    assert value([student], [teacher]).item() == pytest.approx(0.4, abs=1e-6)
    assert value([teacher], [student]).item() == pytest.approx(0.4, abs=1e-6)


def test_it_forgets_scale_sign_and_order_of_channels() -> None:
    maps = random(3, 6, 4, 4)
    changed = [7 * maps, -maps, maps[:, torch.randperm(6)], torch.cat((maps, maps), 1)]
    for other in changed:
        assert value([other], [maps]).item() == pytest.approx(0, abs=1e-9)
    assert value([maps.flip(3)], [maps]).item() > 1e-3


def test_a_dead_map_teaches_nothing_and_breaks_nothing() -> None:
    student = torch.zeros(2, 3, 4, 4, requires_grad=True)
    value([student], [random(2, 5, 4, 4)]).backward()
    assert student.grad is not None
    assert student.grad.abs().max() == 0
