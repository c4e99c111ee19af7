from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv2d, pad

from archsearch.distill.adapters.fam import FrequencyAttention, FrequencyAttentions, high_pass
from archsearch.distill.loss import LossInputs, Outputs, Sizes, Stage, losses
from archsearch.distill.losses.fam import FAM
from archsearch.errors import InvalidRequest

# B batch, C channels of the student, O of the teacher, H W space

fam = losses.get("fam")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> FrequencyAttentions:
    shapes = [tuple((m.shape[1], m.shape[2], m.shape[3]) for m in maps) for maps in (student, teacher)]
    assert fam.adapter is not None
    torch.manual_seed(0)
    adapter = fam.adapter(Sizes(shapes[0], shapes[1], 0, 0, 10, 100), FAM())
    assert isinstance(adapter, FrequencyAttentions)
    return adapter


def value(
    student: list[torch.Tensor],
    teacher: list[torch.Tensor],
    adapter: FrequencyAttentions,
    done: float = 1.0,
    settings: FAM = FAM(),  # noqa: B008
) -> torch.Tensor:
    size = len(student[0])
    outputs = [Outputs(torch.zeros(size, 2), tuple(map(Stage, maps))) for maps in (student, teacher)]
    y_B = torch.zeros(size, dtype=torch.long)
    return fam.compute(LossInputs(outputs[0], outputs[1], y_B, torch.arange(size), done, adapter), settings)


def everywhere(channels_in: int, channels_out: int, height: int, width: int, cutoff: float = 0.0) -> FrequencyAttention:
    """The global branch alone, its share 1, normalised by nothing."""
    module = FrequencyAttention(channels_in, channels_out, height, width, cutoff).eval()
    with torch.no_grad():
        module.shares.copy_(torch.tensor([1.0, 0.0]))
        module.norm.weight.fill_((1 + module.norm.eps) ** 0.5)
    return module


def test_two_pixels_by_hand() -> None:
    """Of 1 and 5 the spectrum is their sum and difference: the first alone is the mean 3, the second alone −2 and 2."""
    module, map_BCHW = everywhere(1, 1, 1, 2), torch.tensor([[[[1.0, 5.0]]]])
    for frequency, expected in ((0, [3.0, 3.0]), (1, [-2.0, 2.0])):
        with torch.no_grad():
            module.filter_HFCO2.zero_()
            module.filter_HFCO2[0, frequency, 0, 0, 0] = 1
        torch.testing.assert_close(module(map_BCHW).flatten(), torch.tensor(expected))


def test_a_filter_is_a_convolution_with_the_whole_map() -> None:
    """The convolution theorem: the spectrum of a real kernel as filter convolves, circularly, across all channels."""
    height, width = 5, 6
    kernel_OCHW, map_BCHW = random(4, 3, height, width), random(2, 3, height, width, seed=1)
    module = everywhere(3, 4, height, width)
    with torch.no_grad():
        module.filter_HFCO2.copy_(torch.view_as_real(torch.fft.rfft2(kernel_OCHW).permute(2, 3, 1, 0).contiguous()))
    circular_BCHW = pad(map_BCHW, (width - 1, 0, height - 1, 0), mode="circular")
    torch.testing.assert_close(module(map_BCHW), conv2d(circular_BCHW, kernel_OCHW.flip(2, 3)), atol=1e-4, rtol=1e-4)


def test_the_local_branch_and_the_shares() -> None:
    map_BCHW = random(2, 3, 4, 4)
    module = everywhere(3, 5, 4, 4)
    alone = module(map_BCHW)
    with torch.no_grad():
        module.shares.copy_(torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(module(map_BCHW), (alone + module.local(map_BCHW)) / 2, atol=1e-5, rtol=1e-5)
    assert FrequencyAttention(3, 5, 4, 4, 0.1).shares.tolist() == [0.5, 0.5]


def test_the_first_filter_is_what_a_real_map_feels_of_the_published_one() -> None:
    """Published: real and imaginary parts uniform below 1 / (C·O); of their sum with the mirrored conjugate, half."""
    torch.manual_seed(0)
    real, imaginary = (6 * FrequencyAttention(2, 3, 40, 40, 0.0).filter_HFCO2).unbind(-1)
    assert real.min() >= 0
    assert real.max() <= 1
    assert imaginary.abs().max() <= 0.5
    for part, mean in ((real, 0.5), (imaginary, 0.0)):
        # The mean of two uniform numbers has half their variance, 1/24.
        assert part.mean().item() == pytest.approx(mean, abs=0.01)
        assert part.var().item() == pytest.approx(1 / 24, rel=0.05)


def test_the_lowest_frequencies_are_taken_out_of_large_maps() -> None:
    """A tenth of half of 32 is 1: the mean. Of half of 64 it is 3: all below the third. Of half of 8, nothing."""
    assert (high_pass(8, 8, 0.1) == 1).all()
    assert (high_pass(32, 32, 0.1) == 0).nonzero().tolist() == [[0, 0]]
    stopped = (high_pass(64, 64, 0.1) == 0).nonzero().tolist()
    assert stopped == [[y, x] for y in (0, 1, 2, 62, 63) for x in (0, 1, 2)]
    module, map_BCHW = everywhere(2, 2, 32, 32, cutoff=0.1), random(2, 2, 32, 32)
    torch.testing.assert_close(module(map_BCHW + 7), module(map_BCHW), atol=1e-5, rtol=0)
    torch.testing.assert_close(module(map_BCHW).mean((2, 3)), torch.zeros(2, 2), atol=1e-6, rtol=0)


def test_a_student_that_shows_nothing_is_off_by_the_teachers_whole_map() -> None:
    """With both shares at 0 what comes out is 0: the teacher's ones and twos are missed by 1 and by 4."""
    student, teacher = [random(4, 2, 4, 4), random(4, 3, 2, 2)], [torch.ones(4, 5, 8, 8), 2 * torch.ones(4, 6, 2, 2)]
    adapter = built(student, teacher)
    with torch.no_grad():
        for stage in adapter.stages:
            stage.shares.zero_()
    assert value(student, teacher, adapter).item() == pytest.approx(5, abs=1e-6)
    assert (fam.weight, fam.labels) == (1, 1)


def test_it_warms_up_over_a_twelfth_of_the_training() -> None:
    student, teacher = [random(4, 2, 4, 4)], [random(4, 5, 4, 4, seed=1)]
    adapter = built(student, teacher).eval()
    full = value(student, teacher, adapter)
    assert value(student, teacher, adapter, 0.0).item() == 0
    torch.testing.assert_close(value(student, teacher, adapter, 1 / 24), full / 2)
    torch.testing.assert_close(value(student, teacher, adapter, 0.0, FAM(warmup=0)), full)


def test_a_student_learns_what_the_teacher_shows_somewhere_else() -> None:
    """What a local regressor cannot do: the teacher's map is the student's, moved by two pixels."""
    student = random(16, 1, 4, 4)
    student = (student - student.mean()) / student.std(correction=0)
    teacher = student.roll(2, 3)
    adapter = built([student], [teacher])
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.03)
    for _ in range(200):
        optimizer.zero_grad()
        value([student], [teacher], adapter).backward()
        optimizer.step()
    assert value([student], [teacher], adapter).item() < 0.05


def test_filters_too_large_to_train_are_refused() -> None:
    assert fam.adapter is not None
    sizes = Sizes(((64, 56, 56),), ((1024, 56, 56),), 0, 0, 10, 100)
    with pytest.raises(InvalidRequest, match=r"212,860,928.*134,217,728 are the most; take reviewkd"):
        fam.adapter(sizes, FAM())
