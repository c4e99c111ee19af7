from __future__ import annotations

import pytest
import torch

from archsearch.distill.loss import LossInputs, Outputs, Sizes, Stage, losses
from archsearch.distill.losses.fitnet import FitNet

# B batch, C channels, H W space

fitnet = losses.get("fitnet")


def value(
    student: list[torch.Tensor], teacher: list[torch.Tensor], adapter: torch.nn.Module, settings: FitNet
) -> torch.Tensor:
    size = len(student[0])
    outputs = [Outputs(torch.zeros(size, 2), tuple(map(Stage, maps))) for maps in (student, teacher)]
    y_B = torch.zeros(size, dtype=torch.long)
    return fitnet.compute(LossInputs(outputs[0], outputs[1], y_B, torch.arange(size), adapter=adapter), settings)


def built(student: list[torch.Tensor], teacher: list[torch.Tensor], settings: FitNet) -> torch.nn.Module:
    shapes = [tuple((m.shape[1], m.shape[2], m.shape[3]) for m in maps) for maps in (student, teacher)]
    assert fitnet.adapter is not None
    torch.manual_seed(0)
    return fitnet.adapter(Sizes(shapes[0], shapes[1], 0, 0, 10, 100), settings)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_hint_by_hand() -> None:
    """−1 and 1 times 2 are −2 and 2, normalised −1 and 1; the teacher shows 0 and 3: (1 + 4) / 2."""
    student, teacher = (torch.tensor(v).view(2, 1, 1, 1) for v in ([-1.0, 1.0], [0.0, 3.0]))
    adapter = built([student], [teacher], FitNet())
    with torch.no_grad():
        adapter.get_submodule("stages.0.conv").weight.fill_(2)
    assert value([student], [teacher], adapter, FitNet()).item() == pytest.approx(2.5, abs=1e-4)
    assert (fitnet.weight, fitnet.labels) == (100, 1)


@pytest.mark.parametrize(("stages", "middle"), [(1, 0), (2, 0), (3, 1), (4, 1)])
def test_the_middle_stage_is_the_hint(stages: int, middle: int) -> None:
    student = [random(4, i + 1, 4, 4, seed=i) for i in range(stages)]
    teacher = [random(4, i + 2, 4, 4, seed=9 + i) for i in range(stages)]
    adapter = built(student, teacher, FitNet())
    found = value(student, teacher, adapter, FitNet())
    alone = value([student[middle]], [teacher[middle]], adapter, FitNet())
    torch.testing.assert_close(found, alone)
    assert sum(p.numel() for p in adapter.parameters()) == (middle + 1) * (middle + 2) + 2 * (middle + 2)


def test_all_stages_add_up() -> None:
    student, teacher = [random(4, 2, 4, 4), random(4, 3, 2, 2)], [random(4, 5, 8, 8), random(4, 4, 2, 2)]
    adapter = built(student, teacher, FitNet(stages="all"))
    regressors = list(adapter.get_submodule("stages"))
    expected = (regressors[0](student[0]) - torch.nn.functional.avg_pool2d(teacher[0], 2)).square().mean()
    expected = expected + (regressors[1](student[1]) - teacher[1]).square().mean()
    torch.testing.assert_close(value(student, teacher, adapter, FitNet(stages="all")), expected)


def test_a_student_finds_what_it_shows_in_other_channels() -> None:
    """What the regressor is for: a rotation of normalised channels is learned away, whatever the signs."""
    teacher = random(8, 4, 4, 4)
    teacher = (teacher - teacher.mean((0, 2, 3), keepdim=True)) / teacher.std((0, 2, 3), keepdim=True)
    student = torch.einsum("bchw,cd->bdhw", teacher, torch.linalg.qr(random(4, 4, seed=1)).Q)
    adapter = built([student], [teacher], FitNet())
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.05)
    first = value([student], [teacher], adapter, FitNet()).item()
    for _ in range(200):
        optimizer.zero_grad()
        value([student], [teacher], adapter, FitNet()).backward()
        optimizer.step()
    assert first > 0.5
    assert value([student], [teacher], adapter, FitNet()).item() < 0.01
