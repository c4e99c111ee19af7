from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from archsearch.distill.loss import LossInputs, Outputs, Stage, losses
from archsearch.distill.losses.sp import SP

# B batch, C channels, H W space

sp = losses.get("sp")


def value(student: list[torch.Tensor], teacher: list[torch.Tensor], settings: SP = SP()) -> torch.Tensor:  # noqa: B008
    size = len(student[0])
    outputs = [Outputs(torch.zeros(size, 2), tuple(map(Stage, maps))) for maps in (student, teacher)]
    return sp.compute(
        LossInputs(outputs[0], outputs[1], torch.zeros(size, dtype=torch.long), torch.arange(size)), settings
    )


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_two_samples_by_hand() -> None:
    """To the student they are unlike, so that its relation is I; to the teacher the same, each row (√½, √½).

    (1 − √½)² + ½ a row, two rows over B² = 4: 1 − √½.
    """
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[:, :, None, None]
    teacher = torch.tensor([[3.0], [3.0]])[:, :, None, None]
    expected = 1 - 0.5**0.5
    assert value([student], [teacher]).item() == pytest.approx(expected, abs=1e-6)
    assert value([student] * 3, [teacher] * 3).item() == pytest.approx(3 * expected, abs=1e-6)
    assert (sp.weight, sp.labels) == (3000, 1)


def test_only_the_last_stage_counts_where_that_is_asked_for() -> None:
    first, last, other = random(4, 3, 4, 4), random(4, 6, 2, 2, seed=1), random(4, 6, 2, 2, seed=2)
    assert value([first, last], [random(4, 3, 4, 4, seed=3), last], SP(stages="last")).item() == 0
    both, alone = value([first, last], [first, other]), value([last], [other])
    torch.testing.assert_close(value([first, last], [first, other], SP(stages="last")), alone)
    torch.testing.assert_close(both, alone)


def test_it_is_the_formula_for_any_layout_width_and_resolution() -> None:
    student, teacher = random(5, 6, 4, 4), random(5, 3, 8, 8, seed=1)
    relations = [normalize(f.flatten(1) @ f.flatten(1).T, dim=1) for f in (student, teacher)]
    expected = (relations[0] - relations[1]).pow(2).sum() / 25
    torch.testing.assert_close(value([student], [teacher]), expected)
    layout = student.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(value([layout], [teacher]), expected)


def test_it_forgets_scale_rotation_of_channels_and_where_things_are() -> None:
    maps = random(5, 6, 4, 4)
    rotation_CC = torch.linalg.qr(random(6, 6, seed=1)).Q
    turned = torch.einsum("bchw,cd->bdhw", maps, rotation_CC)
    for other in (9 * maps, turned, maps.flip(3), maps[:, torch.randperm(6)]):
        assert value([other], [maps]).item() == pytest.approx(0, abs=1e-9)


def test_a_single_sample_is_like_itself() -> None:
    assert value([random(1, 3, 4, 4)], [random(1, 5, 2, 2)]).item() == pytest.approx(0, abs=1e-12)


def test_texts_are_as_alike_as_the_means_of_their_real_tokens() -> None:
    """Means (1, 0) and (0, 1): as unlike as in the first test, whatever stands in the padding."""
    tokens = torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [7.0, 7.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    same = torch.tensor([[[3.0]], [[3.0]]])
    ours, theirs = Stage(tokens, mask), Stage(same, torch.ones(2, 1, dtype=torch.bool))
    outputs = [Outputs(torch.zeros(2, 2), (stage,)) for stage in (ours, theirs)]
    found = sp.compute(LossInputs(outputs[0], outputs[1], torch.zeros(2, dtype=torch.long), torch.arange(2)), SP())
    assert found.item() == pytest.approx(1 - 0.5**0.5, abs=1e-6)
