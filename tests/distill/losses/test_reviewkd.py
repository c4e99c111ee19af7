from __future__ import annotations

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate

from archsearch.distill.adapters.reviewkd import Fusion, Review
from archsearch.distill.loss import LossInputs, Outputs, Sizes, Stage, losses
from archsearch.distill.losses.reviewkd import ReviewKD, hierarchical

# B batch, C channels, H W space, M channels in between

reviewkd = losses.get("reviewkd")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> Review:
    shapes = [tuple((m.shape[1], m.shape[2], m.shape[3]) for m in maps) for maps in (student, teacher)]
    assert reviewkd.adapter is not None
    torch.manual_seed(0)
    adapter = reviewkd.adapter(Sizes(shapes[0], shapes[1], 0, 0, 10, 100), ReviewKD())
    assert isinstance(adapter, Review)
    return adapter


def value(
    student: list[torch.Tensor],
    teacher: list[torch.Tensor],
    adapter: Review,
    done: float = 1.0,
    settings: ReviewKD = ReviewKD(),  # noqa: B008
) -> torch.Tensor:
    size = len(student[0])
    outputs = [Outputs(torch.zeros(size, 2), tuple(map(Stage, maps))) for maps in (student, teacher)]
    y_B = torch.zeros(size, dtype=torch.long)
    return reviewkd.compute(LossInputs(outputs[0], outputs[1], y_B, torch.arange(size), done, adapter), settings)


def test_the_hierarchy_by_hand() -> None:
    """Differences 1, 1, 1 and 5: mean square 7; their mean 2, squared 4, at half the weight: (7 + 2) / 1½.

    Pools as large as the map are left out.
    """
    assert hierarchical(torch.tensor([[[[1.0, 1.0], [1.0, 5.0]]]])).item() == pytest.approx(6)
    assert hierarchical(torch.tensor([[[[3.0]]]])).item() == pytest.approx(9)


def test_the_hierarchy_of_a_large_map_has_four_levels() -> None:
    gap = random(2, 3, 8, 8)
    levels = [gap, avg_pool2d(gap, 2), avg_pool2d(gap, 4), avg_pool2d(gap, 8)]
    expected = sum(level.square().mean() / 2**i for i, level in enumerate(levels)) / (1 + 0.5 + 0.25 + 0.125)
    torch.testing.assert_close(hierarchical(gap), expected)


def test_a_student_that_shows_nothing_is_off_by_the_teachers_whole_map() -> None:
    """Its reviews are the normalisation's biases, here 0: the teacher's ones and its twos are missed by 1 and by 4.

    The last stage counts twice, as a map and as its mean: 1 + 4 + 4.
    """
    student, teacher = [random(4, 2, 4, 4), random(4, 3, 2, 2)], [torch.ones(4, 5, 4, 4), 2 * torch.ones(4, 6, 2, 2)]
    adapter = built(student, teacher)
    with torch.no_grad():
        for stage in adapter.stages:
            stage.get_submodule("widen.norm").weight.zero_()
    assert value(student, teacher, adapter).item() == pytest.approx(9, abs=1e-5)


def test_it_warms_up_over_a_twelfth_of_the_training() -> None:
    student, teacher = [random(4, 2, 4, 4)], [random(4, 5, 4, 4, seed=1)]
    adapter = built(student, teacher).eval()
    full = value(student, teacher, adapter, 0.5)
    assert value(student, teacher, adapter, 0.0).item() == 0
    torch.testing.assert_close(value(student, teacher, adapter, 1 / 24), full / 2)
    torch.testing.assert_close(value(student, teacher, adapter, 1 / 12), full)
    torch.testing.assert_close(value(student, teacher, adapter, 0.0, ReviewKD(warmup=0)), full)


def test_a_fusion_is_the_published_one() -> None:
    """Gates from a convolution of the concatenated maps, the passed one enlarged first."""
    fusion = Fusion(3, 4, 5, fuses=True).eval()
    assert fusion.gates is not None
    torch.nn.init.normal_(fusion.gates.bias)
    map_BCHW, passed_BMHW = random(2, 3, 4, 4), random(2, 4, 2, 2, seed=1)
    own, enlarged = fusion.narrow(map_BCHW), interpolate(passed_BMHW, (4, 4), mode="nearest")
    gates = fusion.gates(torch.cat((own, enlarged), 1)).sigmoid()
    expected = own * gates[:, :1] + enlarged * gates[:, 1:]
    review, passed_on = fusion(map_BCHW, passed_BMHW, (4, 4))
    torch.testing.assert_close(passed_on, expected)
    torch.testing.assert_close(review, fusion.widen(expected))


def test_deeper_stages_look_back_and_earlier_ones_do_not_look_ahead() -> None:
    """The teacher's first map is learned from by both of the student's stages, its last one only by the last."""
    student = [random(4, 2, 4, 4).requires_grad_(), random(4, 3, 2, 2).requires_grad_()]
    adapter = built(student, [random(4, 5, 4, 4), random(4, 6, 2, 2)])
    maps = [*student, student[1].mean((2, 3), keepdim=True)]
    reviews = adapter(maps, [(4, 4), (2, 2), (1, 1)])
    first = torch.autograd.grad(reviews[0].square().sum(), student, retain_graph=True)
    assert all(gradient.abs().max() > 0 for gradient in first)
    untouched, touched = torch.autograd.grad(reviews[1].square().sum(), student, allow_unused=True)
    assert untouched is None
    assert touched.abs().max() > 0


def test_resolutions_meet_at_the_smaller_one() -> None:
    student, teacher = [random(4, 2, 8, 8), random(4, 3, 2, 2)], [random(4, 5, 4, 4), random(4, 6, 4, 4, seed=1)]
    adapter = built(student, teacher).eval()
    maps = [*student, adaptive_avg_pool2d(student[1], 1)]
    reviews = adapter(maps, [(4, 4), (2, 2), (1, 1)])
    targets = [teacher[0], avg_pool2d(teacher[1], 2), adaptive_avg_pool2d(teacher[1], 1)]
    expected = sum(hierarchical(review - target) for review, target in zip(reviews, targets, strict=True))
    torch.testing.assert_close(value(student, teacher, adapter), expected)
