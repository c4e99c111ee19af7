from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import kl_div

from archsearch.kernels import relation, softened_kl

# B batch, C channels, H W space, D features, K classes


def test_relation_by_hand() -> None:
    # Gram of (1,0), (0,2), (1,1) is [[1,0,1],[0,4,2],[1,2,2]]; its rows have lengths √2, √20 and 3.
    relation_BB = relation(torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
    r2, r20 = 2**-0.5, 20**-0.5
    expected_BB = torch.tensor([[r2, 0, r2], [0, 4 * r20, 2 * r20], [1 / 3, 2 / 3, 2 / 3]])
    torch.testing.assert_close(relation_BB, expected_BB)


def test_relation_flattens_any_map_and_forgets_a_common_scale() -> None:
    x_BCHW = torch.randn(5, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(relation(x_BCHW), relation(7 * x_BCHW.flatten(1)))
    assert relation(x_BCHW).shape == (5, 5)


def test_relation_of_a_dead_sample_is_zero_and_not_nan() -> None:
    relation_BB = relation(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert relation_BB.tolist() == [[0, 0], [0, 1]]


def test_relation_is_computed_in_float32() -> None:
    assert relation(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.float32


def test_softened_kl_by_hand() -> None:
    # At T = 2: teacher (ln 3 · 2, 0) → (3/4, 1/4), student → (1/2, 1/2); KL = 3/4·ln 3/2 + 1/4·ln 1/2; times T².
    teacher_BK, student_BK = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert softened_kl(student_BK, teacher_BK, 2.0).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 0.5])
def test_softened_kl_is_torchs(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student_BK, teacher_BK = (3 * torch.randn(6, 5, generator=generator) for _ in range(2))
    log_s_BK, log_t_BK = ((z / temperature).log_softmax(1) for z in (student_BK, teacher_BK))
    expected = temperature**2 * kl_div(log_s_BK, log_t_BK, log_target=True, reduction="batchmean")
    torch.testing.assert_close(softened_kl(student_BK, teacher_BK, temperature), expected)
    assert softened_kl(teacher_BK, teacher_BK, temperature).item() == pytest.approx(0, abs=1e-6)


def test_softened_kls_gradient_is_t_times_the_difference_of_the_softened_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    student_BK = torch.randn(6, 5, generator=generator, requires_grad=True)
    teacher_BK = torch.randn(6, 5, generator=generator)
    for temperature in (1.0, 3.0, 10.0):
        (gradient_BK,) = torch.autograd.grad(softened_kl(student_BK, teacher_BK, temperature), student_BK)
        gap_BK = (student_BK / temperature).softmax(1) - (teacher_BK / temperature).softmax(1)
        torch.testing.assert_close(gradient_BK, temperature * gap_BK.detach() / len(gap_BK))


def test_softened_kls_gradient_keeps_its_size_when_it_softens() -> None:
    # What T² is for: at high temperature the gap shrinks as 1/T, and the gradient tends to a limit instead of to 0.
    student_BK = torch.tensor([[1.0, -1.0, 0.5]], requires_grad=True)
    teacher_BK = torch.tensor([[0.0, 2.0, 1.0]])
    sizes = []
    for temperature in (50.0, 500.0):
        (gradient_BK,) = torch.autograd.grad(softened_kl(student_BK, teacher_BK, temperature), student_BK)
        sizes.append(gradient_BK.norm().item())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
    assert sizes[1] > 0.1
