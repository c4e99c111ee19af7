from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from archsearch.distill.loss import LossInputs, Outputs, Sizes, Stage, losses
from archsearch.distill.losses.pkd import PKD, standardised

# B batch, C channels, H W space

pkd = losses.get("pkd")


def value(
    student: list[torch.Tensor], teacher: list[torch.Tensor], adapter: nn.Module, settings: PKD | None = None
) -> torch.Tensor:
    size = len(student[0])
    ours, theirs = (Outputs(torch.zeros(size, 2), tuple(map(Stage, maps))) for maps in (student, teacher))
    y_B = torch.zeros(size, dtype=torch.long)
    return pkd.compute(LossInputs(ours, theirs, y_B, torch.arange(size), adapter=adapter), settings or PKD())


def built(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> nn.Module:
    ours, theirs = (tuple((m.shape[1], m.shape[2], m.shape[3]) for m in maps) for maps in (student, teacher))
    assert pkd.adapter is not None
    torch.manual_seed(0)
    return pkd.adapter(Sizes(ours, theirs, 0, 0, 10, 100), PKD())


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_by_hand() -> None:
    """−1, −1, 1, 1 beside −1, 1, −1, 1 has the correlation 0, and beside itself, whatever scale and offset, 1."""
    one, other = (torch.tensor(v).view(4, 1, 1, 1) for v in ([-1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, -1.0, 1.0]))
    assert value([one], [other], nn.Identity()).item() == pytest.approx(1.0, abs=1e-6)
    assert value([one], [7 * one + 3], nn.Identity()).item() == pytest.approx(0.0, abs=1e-6)
    assert value([one], [-one], nn.Identity()).item() == pytest.approx(2.0, abs=1e-6)
    assert value([one, one], [one, other], nn.Identity()).item() == pytest.approx(0.5, abs=1e-6)
    assert (pkd.weight, pkd.labels) == (6, 1)


def test_it_is_one_minus_pearsons_correlation_of_the_channels() -> None:
    student, teacher = random(4, 3, 5, 5), random(4, 3, 5, 5, seed=1) + random(4, 3, 5, 5)
    pairs = zip(student.transpose(0, 1).flatten(1).numpy(), teacher.transpose(0, 1).flatten(1).numpy(), strict=True)
    expected = np.mean([1 - np.corrcoef(ours, theirs)[0, 1] for ours, theirs in pairs])
    assert value([student], [teacher], nn.Identity()).item() == pytest.approx(expected, abs=1e-6)


def test_a_channel_that_is_the_same_everywhere_teaches_nothing_and_breaks_nothing() -> None:
    student, teacher = random(4, 2, 3, 3).requires_grad_(), torch.zeros(4, 2, 3, 3)
    found = value([student], [teacher], nn.Identity())
    found.backward()
    assert found.item() == pytest.approx(0.5, abs=1e-6)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6
    assert not standardised(teacher).any()


def test_its_map_leads_to_the_teachers_width_and_finds_the_same_in_other_channels() -> None:
    teacher = random(8, 5, 4, 4)
    student = torch.einsum("bchw,cd->bdhw", teacher, random(5, 6, seed=1))
    adapter = built([student], [teacher])
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.05)
    first = value([student], [teacher], adapter).item()
    for _ in range(200):
        optimizer.zero_grad()
        value([student], [teacher], adapter).backward()
        optimizer.step()
    assert first > 0.3
    assert value([student], [teacher], adapter).item() < 0.01


def test_the_last_stage_alone_where_asked_for() -> None:
    student = [random(4, 2, 8, 8, seed=1), random(4, 3, 4, 4, seed=2)]
    teacher = [random(4, 4, 8, 8, seed=3), random(4, 5, 2, 2, seed=4)]
    settings = PKD(stages="last")
    assert pkd.adapter is not None
    sizes = Sizes(((2, 8, 8), (3, 4, 4)), ((4, 8, 8), (5, 2, 2)), 0, 0, 10, 100)
    adapter = pkd.adapter(sizes, settings)
    assert [tuple(weight.shape) for weight in adapter.parameters()] == [(5, 3, 1, 1)]
    assert value(student, teacher, adapter, settings).item() == pytest.approx(
        value(student[1:], teacher[1:], adapter).item()
    )
