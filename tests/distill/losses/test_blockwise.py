from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from archsearch.distill.loss import LossInputs, Outputs, Sizes, Stage, losses
from archsearch.distill.losses.blockwise import Blockwise
from archsearch.kernels import softened_kl

# B batch, C channels, H W space, K classes

blockwise = losses.get("blockwise")
UNDECIDED, SURE = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
KL = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
ALONE = Blockwise(temperature=1, cross=0, stone_labels=0)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(student: list[Tensor], teacher: list[Tensor], settings: Blockwise = ALONE) -> nn.Module:
    shapes = [tuple((m.shape[1], m.shape[2], m.shape[3]) for m in maps) for maps in (student, teacher)]
    assert blockwise.adapter is not None
    torch.manual_seed(0)
    return blockwise.adapter(Sizes(shapes[0], shapes[1], 0, 0, 2, 100), settings)


def answered(stones: list[Tensor], settings: Blockwise, student_BK: Tensor = UNDECIDED) -> float:
    """The loss where the teacher is sure of class 0, the label is 0, and the stones answer this, first to last."""
    maps = [random(1, 2, 2, 2) for _ in stones]

    def tail(stage: int, map_BCHW: Tensor) -> Tensor:
        assert map_BCHW.shape == maps[stage].shape
        return stones[stage]

    student, teacher = Outputs(student_BK, tuple(map(Stage, maps))), Outputs(SURE, tuple(map(Stage, maps)))
    batch = LossInputs(student, teacher, torch.tensor([0]), torch.tensor([0]), 1.0, built(maps, maps, settings), tail)
    found: Tensor = blockwise.compute(batch, settings)
    return found.item()


def test_stones_by_hand() -> None:
    """Undecided against (¾, ¼) is KL. The student counts 1, the last stone 1, the one before it ½, the next ¼."""
    assert answered([SURE, SURE], ALONE) == pytest.approx(KL, abs=1e-6)
    assert answered([SURE, UNDECIDED], ALONE) == pytest.approx(2 * KL, abs=1e-6)
    assert answered([UNDECIDED, SURE, SURE], ALONE) == pytest.approx(1.25 * KL, abs=1e-6)
    assert answered([UNDECIDED] * 3, ALONE, SURE) == pytest.approx(1.75 * KL, abs=1e-6)
    assert (blockwise.weight, blockwise.labels) == (1, 1)


def test_what_labels_teach_the_stones_by_hand() -> None:
    """−log ¾ of the last stone, and half of −log ½ of the first."""
    found = answered([UNDECIDED, SURE], Blockwise(temperature=1, cross=0, stone_labels=2))
    assert found == pytest.approx(1.5 * KL + 2 * (math.log(4 / 3) + math.log(2) / 2), abs=1e-6)


def test_the_stones_mean_teaches_student_and_stones() -> None:
    stones, settings = [UNDECIDED, SURE], Blockwise(temperature=2, cross=3, stone_labels=0)
    mean_BK = SURE / 2
    expected = answered(stones, Blockwise(temperature=2, cross=0, stone_labels=0))
    for weight, logits_BK in ((1, UNDECIDED), (0.5, UNDECIDED), (1, SURE)):
        expected += 3 * weight * softened_kl(logits_BK, mean_BK, 2.0).item()
    assert answered(stones, settings) == pytest.approx(expected, abs=1e-6)


def test_the_stones_mean_does_not_learn_from_whom_it_teaches() -> None:
    """A stone that answers as the teacher does has nothing to learn, whatever the student answers."""
    maps, stone_BK = [random(1, 2, 2, 2)], SURE.clone().requires_grad_()
    student, teacher = (Outputs(x_BK, tuple(map(Stage, maps))) for x_BK in (UNDECIDED.clone().requires_grad_(), SURE))
    settings = Blockwise(temperature=1, cross=1, stone_labels=0)
    adapter = built(maps, maps, settings)
    batch = LossInputs(
        student, teacher, torch.tensor([0]), torch.tensor([0]), 1.0, adapter, lambda _stage, _map: stone_BK
    )
    blockwise.compute(batch, settings).backward()
    assert student.answers_MK.grad is not None
    assert student.answers_MK.grad.abs().max() > 0.1
    assert stone_BK.grad is not None
    assert stone_BK.grad.abs().max() < 1e-6


def test_fewer_stones_are_the_last_ones() -> None:
    few = Blockwise(temperature=1, cross=0, stone_labels=0, stones=1)
    assert answered([UNDECIDED, UNDECIDED, SURE], few, SURE) == pytest.approx(0, abs=1e-6)
    assert answered([SURE, SURE, UNDECIDED], few, SURE) == pytest.approx(KL, abs=1e-6)
    assert len(list(built([random(1, 2, 2, 2)] * 3, [random(1, 2, 2, 2)] * 3, few).get_submodule("stages"))) == 1


class Network(nn.Module):
    """Three stages and a classifier, which can go on from any stage's map."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        widths = [1, width, 2 * width, 3 * width]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(widths[i], widths[i + 1], 3, padding=1, stride=1 + (i > 0)), nn.ReLU())
            for i in range(3)
        )
        self.head = nn.Linear(widths[-1], 4)

    def forward(self, x_BCHW: Tensor, first: int = 0) -> Outputs:
        maps = []
        for stage in self.stages[first:]:
            x_BCHW = stage(x_BCHW)
            maps.append(x_BCHW)
        return Outputs(self.head(x_BCHW.mean((2, 3))), tuple(map(Stage, maps)))

    def tail(self) -> Callable[[int, Tensor], Tensor]:
        return lambda stage, map_BCHW: self.forward(map_BCHW, stage + 1).answers_MK


def test_gradients_reach_every_stage_through_the_teachers_layers() -> None:
    student, teacher = Network(2, 0), Network(3, 1).requires_grad_(False)
    x_BCHW, y_B = random(6, 1, 8, 8), torch.arange(6) % 4
    ours, theirs = student(x_BCHW), teacher(x_BCHW)
    adapter = built(list(ours.maps), list(theirs.maps), Blockwise())
    # The student's own logits taught already, so that all that teaches its stages are the stones.
    outputs = Outputs(theirs.answers_MK, ours.stages)
    batch = LossInputs(outputs, theirs, y_B, torch.arange(6), 1.0, adapter, teacher.tail())
    blockwise.compute(batch, Blockwise()).backward()
    for module in (student.stages, adapter):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert all(stage[0].weight.grad.abs().max() > 0 for stage in student.stages)


def test_a_student_that_shows_the_teachers_maps_makes_perfect_stones() -> None:
    teacher = Network(3, 1).requires_grad_(False)
    outputs = teacher(random(6, 1, 8, 8))
    adapter = built(list(outputs.maps), list(outputs.maps)).eval()
    with torch.no_grad():
        for stage in adapter.get_submodule("stages"):
            weight = stage.get_submodule("conv").weight
            weight.copy_(torch.eye(len(weight))[:, :, None, None])
    batch = LossInputs(outputs, outputs, torch.arange(6) % 4, torch.arange(6), 1.0, adapter, teacher.tail())
    assert blockwise.compute(batch, ALONE).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), [((8, 8), (4, 4)), ((4, 4), (8, 8)), ((6, 3), (4, 5))])
def test_maps_come_in_the_teachers_shape(ours: tuple[int, int], theirs: tuple[int, int]) -> None:
    student, teacher = random(3, 2, *ours), random(3, 7, *theirs)
    (found,) = built([student], [teacher])([student], [theirs])
    assert found.shape == teacher.shape
