from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, cross_entropy, kl_div

from archsearch.kernels import (
    bernoulli_kl,
    cka,
    correlation,
    effective_rank,
    gram,
    label_embeddings,
    label_loss,
    label_residual,
    relation,
    softened_kl,
    standardised,
    structure_gap,
)

# B batch, C channels, H W space, D features, K classes, G groups of N points


def test_gram_by_hand() -> None:
    gram_BB = gram(torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
    assert gram_BB.tolist() == [[1, 0, 1], [0, 4, 2], [1, 2, 2]]


def test_gram_flattens_any_map() -> None:
    x_BCHW = torch.randn(5, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gram(x_BCHW), torch.einsum("achw,bchw->ab", x_BCHW, x_BCHW))
    channels_last = x_BCHW.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(gram(channels_last), gram(x_BCHW))


@pytest.mark.parametrize("kernel", [gram, correlation])
def test_what_is_made_of_bf16_features_is_summed_in_float32(kernel) -> None:
    # Sums of 300 entries, of which bf16 would keep eight bits.
    x_BD = torch.randn(4, 300, generator=torch.Generator().manual_seed(0)).bfloat16()
    kernel_BB = kernel(x_BD)
    assert kernel_BB.dtype == torch.float32
    assert kernel_BB.equal(kernel(x_BD.float()))


def test_relation_by_hand() -> None:
    # Rows of [[1,0,1],[0,4,2],[1,2,2]] have lengths √2, √20 and 3.
    relation_BB = relation(torch.tensor([[1.0, 0.0, 1.0], [0.0, 4.0, 2.0], [1.0, 2.0, 2.0]]))
    r2, r20 = 2**-0.5, 20**-0.5
    expected_BB = torch.tensor([[r2, 0, r2], [0, 4 * r20, 2 * r20], [1 / 3, 2 / 3, 2 / 3]])
    torch.testing.assert_close(relation_BB, expected_BB)


def test_relation_forgets_a_common_scale() -> None:
    x_BD = torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(relation(gram(x_BD)), relation(gram(7 * x_BD)))


def test_relation_of_a_dead_sample_is_zero_and_not_nan() -> None:
    relation_BB = relation(gram(torch.tensor([[0.0, 0.0], [1.0, 1.0]])))
    assert relation_BB.tolist() == [[0, 0], [0, 1]]


def test_correlation_by_hand() -> None:
    # Centred: (−1,0,1), (−1,1,0), (1,0,−1), each of length √2.
    correlation_BB = correlation(torch.tensor([[1.0, 2.0, 3.0], [5.0, 7.0, 6.0], [3.0, 2.0, 1.0]]))
    torch.testing.assert_close(correlation_BB, torch.tensor([[1, 0.5, -1], [0.5, 1, -0.5], [-1, -0.5, 1]]))


def test_correlation_is_numpys_and_forgets_each_samples_own_scale_and_offset() -> None:
    x_BCHW = torch.randn(5, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    correlation_BB = correlation(x_BCHW)
    torch.testing.assert_close(correlation_BB, torch.corrcoef(x_BCHW.flatten(1)))
    moved_BCHW = x_BCHW * torch.tensor([1, 2, 3, 1e-3, 1e3]).view(5, 1, 1, 1) + 0.5
    torch.testing.assert_close(correlation(moved_BCHW), correlation_BB, atol=1e-3, rtol=0)


def test_a_sample_without_variance_correlates_with_none() -> None:
    correlation_BB = correlation(torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [1.0, 2.0, 3.0]]))
    torch.testing.assert_close(correlation_BB, torch.diag(torch.tensor([0.0, 0.0, 1.0])))


def test_correlation_of_tiny_gradients_is_not_lost() -> None:
    x_BD = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(correlation(1e-15 * x_BD), correlation(x_BD))


def test_cka_by_hand() -> None:
    # Of one feature CKA is the squared correlation: (0,1,2) and (0,0,3), centred (−1,0,1) and (−1,−1,2), 3²/(2·6).
    a_BB, b_BB = gram(torch.tensor([[0.0], [1.0], [2.0]])), gram(torch.tensor([[0.0], [0.0], [3.0]]))
    assert cka(a_BB, b_BB).item() == pytest.approx(0.75)
    assert cka(a_BB, gram(torch.tensor([[1.0], [0.0], [1.0]]))).item() == pytest.approx(0, abs=1e-7)


def test_cka_forgets_scale_offset_and_rotation() -> None:
    generator = torch.Generator().manual_seed(0)
    x_BD, y_BD = (torch.randn(6, 4, generator=generator) for _ in range(2))
    rotation_DD = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    assert cka(gram(x_BD), gram(3 * x_BD @ rotation_DD + 2)).item() == pytest.approx(1, abs=1e-5)
    between = cka(gram(x_BD), gram(y_BD)).item()
    assert 0 < between < 1
    assert cka(gram(y_BD), gram(x_BD + 5)).item() == pytest.approx(between, abs=1e-5)


def test_cka_with_what_tells_no_samples_apart_is_zero() -> None:
    x_BB = gram(torch.tensor([[0.0], [1.0], [2.0]]))
    for same_BB in (torch.zeros(3, 3), torch.ones(3, 3)):
        assert cka(x_BB, same_BB).item() == 0


def test_effective_rank_by_hand() -> None:
    assert effective_rank(torch.eye(5)).item() == pytest.approx(5)
    assert effective_rank(torch.ones(5, 5)).item() == pytest.approx(1)
    # Eigenvalues 3 and 1: shares 3/4 and 1/4.
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(torch.tensor([[2.0, 1.0], [1.0, 2.0]])).item() == pytest.approx(expected)
    assert effective_rank(torch.tensor([[2e-9, 1e-9], [1e-9, 2e-9]])).item() == pytest.approx(expected)


def test_effective_rank_of_nothing_is_zero() -> None:
    assert effective_rank(torch.zeros(4, 4)).item() == 0


def test_effective_rank_takes_what_rounding_made_negative_for_zero() -> None:
    assert effective_rank(torch.diag(torch.tensor([1.0, -1e-6, 0.0]))).item() == pytest.approx(1)


def test_effective_rank_is_not_found_in_half_precision() -> None:
    rank = effective_rank(torch.eye(3, dtype=torch.bfloat16))
    assert rank.dtype == torch.float64
    assert rank.item() == pytest.approx(3)


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


def test_standardised_by_hand() -> None:
    # (2, -1, -1): mean 0, deviation √(6/2) with the usual n - 1.
    found_BK = standardised(torch.tensor([[2.0, -1.0, -1.0], [7.0, 7.0, 7.0]]))
    torch.testing.assert_close(found_BK, torch.tensor([[2.0, -1.0, -1.0], [0.0, 0.0, 0.0]]) / 3**0.5)


def test_standardised_rows_have_mean_zero_and_deviation_one() -> None:
    z_BK = (40 * torch.randn(6, 9, generator=torch.Generator().manual_seed(0)) + 7).bfloat16()
    found_BK = standardised(z_BK)
    assert found_BK.dtype == torch.float32
    torch.testing.assert_close(found_BK.mean(1), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(found_BK.std(1), torch.ones(6))


def test_bernoulli_kl_by_hand() -> None:
    # Teacher yes with 3/4 and with 1/2, student undecided on both: one label costs, and one image of two.
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    student_BK, teacher_BK = torch.zeros(2, 2), torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    assert bernoulli_kl(student_BK, teacher_BK).item() == pytest.approx(kl / 2, abs=1e-6)


def test_bernoulli_kl_is_the_softened_kl_of_yes_and_no() -> None:
    generator = torch.Generator().manual_seed(0)
    student_B1, teacher_B1 = (3 * torch.randn(6, 1, generator=generator) for _ in range(2))
    no_B1 = torch.zeros(6, 1)
    expected = softened_kl(torch.cat((student_B1, no_B1), 1), torch.cat((teacher_B1, no_B1), 1), 1.0)
    torch.testing.assert_close(bernoulli_kl(student_B1, teacher_B1), expected)


def test_bernoulli_kls_gradient_is_the_difference_of_the_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    student_BK = torch.randn(6, 5, generator=generator, requires_grad=True)
    teacher_BK = torch.randn(6, 5, generator=generator)
    (gradient_BK,) = torch.autograd.grad(bernoulli_kl(student_BK, teacher_BK), student_BK)
    torch.testing.assert_close(gradient_BK, (student_BK.sigmoid() - teacher_BK.sigmoid()).detach() / 6)


def test_label_embeddings_by_hand() -> None:
    # Two channels, two positions: (1, 0) and (0, 1). Label 0 reads channel 0 with weight ln 3, so it looks at the first
    # position three times as hard as at the second: (3/4, 1/4), times its weights. Label 1 reads nothing.
    map_BDHW = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    found_BKD = label_embeddings(map_BDHW, torch.tensor([[math.log(3), 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(found_BKD, torch.tensor([[[0.75 * math.log(3), 0.0], [0.0, 0.0]]]))


def test_label_embeddings_of_one_position_add_up_to_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    embedding_BD, weight_KD = torch.randn(4, 6, generator=generator), torch.randn(3, 6, generator=generator)
    found_BKD = label_embeddings(embedding_BD[:, :, None, None], weight_KD)
    torch.testing.assert_close(found_BKD.sum(2), embedding_BD @ weight_KD.T)


def test_structure_gap_by_hand() -> None:
    # Points at 0, 1, 3 and at 0, 2, 3: distances 1, 2, 3 against 2, 1, 3, all over their mean of 2. Two pairs differ by
    # 1/2: Huber's 1/8, in both orders, over 3 points. Without the last point one distance is left, its own mean.
    student_GN1, teacher_GN1 = (torch.tensor([line, line])[..., None] for line in ([0.0, 1, 3], [0.0, 2, 3]))
    member_GN = torch.tensor([[True, True, True], [True, True, False]])
    found_G = structure_gap(student_GN1, teacher_GN1, member_GN)
    torch.testing.assert_close(found_G, torch.tensor([4 / 8 / 3, 0.0]))


def test_structure_gap_sees_neither_size_nor_place_nor_order() -> None:
    generator = torch.Generator().manual_seed(0)
    student_GND, teacher_GND = torch.randn(2, 5, 3, generator=generator), torch.randn(2, 5, 7, generator=generator)
    member_GN = torch.tensor([[True] * 5, [True, False, True, True, False]])
    value_G = structure_gap(student_GND, teacher_GND, member_GN)
    assert (value_G > 0.01).all()
    torch.testing.assert_close(structure_gap(9 * student_GND + 2, teacher_GND - 5, member_GN), value_G)
    order = [4, 2, 0, 1, 3]
    torch.testing.assert_close(
        structure_gap(student_GND[:, order], teacher_GND[:, order], member_GN[:, order]), value_G
    )


def test_structure_gap_of_points_in_one_place_has_a_finite_gradient() -> None:
    student_GND = torch.zeros(1, 4, 3, requires_grad=True)
    teacher_GND = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    value = structure_gap(student_GND, teacher_GND, torch.ones(1, 4, dtype=torch.bool)).sum()
    (gradient_GND,) = torch.autograd.grad(value, student_GND)
    assert value.isfinite()
    assert gradient_GND.isfinite().all()


def test_a_softened_bernoulli_kls_gradient_is_t_times_the_difference_of_the_softened_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    student_BK = torch.randn(6, 5, generator=generator, requires_grad=True)
    teacher_BK = torch.randn(6, 5, generator=generator)
    (gradient_BK,) = torch.autograd.grad(bernoulli_kl(student_BK, teacher_BK, 3.0), student_BK)
    gap_BK = (student_BK / 3).sigmoid() - (teacher_BK / 3).sigmoid()
    torch.testing.assert_close(gradient_BK, 3 * gap_BK.detach() / len(gap_BK))


def test_label_loss_of_one_label_is_cross_entropy_to_the_bit() -> None:
    logits_BK = 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    y_B = torch.tensor([0, 4, 2, 2, 1, 3])
    assert label_loss(logits_BK, y_B).equal(cross_entropy(logits_BK, y_B))
    assert label_loss(logits_BK.bfloat16(), y_B).dtype == torch.float32


def test_label_loss_of_many_labels_by_hand() -> None:
    # Sure of nothing, each of two labels costs ln 2; −ln 3 says no with 3/4, so a yes there costs ln 4 and a no ln 4/3.
    logits_BK = torch.tensor([[0.0, 0.0], [-math.log(3), -math.log(3)]])
    y_BK = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    expected = (2 * math.log(2) + math.log(4) + math.log(4 / 3)) / 2
    assert label_loss(logits_BK, y_BK).item() == pytest.approx(expected, rel=1e-6)


def test_label_loss_of_many_labels_is_torchs_summed_over_them() -> None:
    generator = torch.Generator().manual_seed(0)
    logits_BK = 3 * torch.randn(6, 5, generator=generator)
    y_BK = torch.randint(0, 2, (6, 5), generator=generator)
    expected = 5 * binary_cross_entropy(logits_BK.sigmoid(), y_BK.float())
    torch.testing.assert_close(label_loss(logits_BK, y_BK), expected)
    assert label_loss(logits_BK.bfloat16(), y_BK).dtype == torch.float32


@pytest.mark.parametrize("y", [torch.tensor([0, 4, 2, 2]), torch.tensor([[1.0, 0, 0, 1, 1]] * 2 + [[0.0] * 5] * 2)])
def test_label_residual_is_the_gradient_of_the_label_loss(y: torch.Tensor) -> None:
    logits_BK = (3 * torch.randn(4, 5, generator=torch.Generator().manual_seed(0))).requires_grad_()
    (gradient_BK,) = torch.autograd.grad(label_loss(logits_BK, y), logits_BK)
    torch.testing.assert_close(label_residual(logits_BK.detach(), y) / 4, gradient_BK)
