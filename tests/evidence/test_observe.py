from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from archsearch.evidence import TEMPERATURE, NetworkEvidence, Weight, observe_teacher
from archsearch.evidence.layers import first_tensor, stage_names, weighted
from archsearch.evidence.observe import PROJECTION_SEED
from archsearch.kernels import bernoulli_kl, cka, gram, softened_kl
from archsearch.teachers import Teacher

# B batch, K classes, D features, P parameters


def same_gradients(found: tuple[Weight, ...], model: nn.Module, loss: torch.Tensor) -> None:
    matrices = {name: p for name, p in model.named_parameters() if p.ndim >= 2}
    expected = dict(zip(matrices, torch.autograd.grad(loss, list(matrices.values()), allow_unused=True), strict=True))
    assert [w.name for w in found] == [name for name, gradient in expected.items() if gradient is not None]
    for weight in found:
        torch.testing.assert_close(weight.value, matrices[weight.name].detach())
        torch.testing.assert_close(weight.gradient, expected[weight.name], rtol=1e-3, atol=1e-5)
        assert weight.is_head == (matrices[weight.name] is model.get_classifier().weight)


def test_gradients_are_those_of_the_distillation_loss(batch, net) -> None:
    evidence = batch.observe(net, "gradients")
    same_gradients(evidence.gradients, net, softened_kl(net(batch.x_BCHW), evidence.teacher.logits_BK, TEMPERATURE))


def test_label_gradients_are_those_of_the_labels_cross_entropy(batch, net) -> None:
    evidence = batch.observe(net, "label_gradients")
    same_gradients(evidence.label_gradients, net, cross_entropy(net(batch.x_BCHW), batch.y_B))


def test_of_many_labels_gradients_are_those_of_each_labels_own_odds(many, wide_net) -> None:
    evidence = many.observe(wide_net, "gradients", "label_gradients")
    logits_BK = wide_net(many.x_BCHW)
    same_gradients(evidence.gradients, wide_net, bernoulli_kl(logits_BK, evidence.teacher.logits_BK))
    logits_BK = wide_net(many.x_BCHW)
    loss = binary_cross_entropy_with_logits(logits_BK, many.y_B, reduction="none").sum(1).mean()
    same_gradients(evidence.label_gradients, wide_net, loss)


def test_both_losses_are_kept_apart(batch, net) -> None:
    evidence = batch.observe(net, "gradients", "label_gradients", "samples", "label_samples")
    same_gradients(evidence.gradients, net, softened_kl(net(batch.x_BCHW), evidence.teacher.logits_BK, TEMPERATURE))
    same_gradients(evidence.label_gradients, net, cross_entropy(net(batch.x_BCHW), batch.y_B))
    for read, other in (("samples", evidence.samples), ("label_samples", evidence.label_samples)):
        alone = getattr(batch.observe(net, read), read)
        for a, b in zip(alone, other, strict=True):
            assert float(a.snr) == pytest.approx(float(b.snr), rel=1e-2)


@pytest.mark.parametrize("read", ["input_kernel", "jacobian"])
def test_input_kernels_are_correlations_of_input_gradients(batch, net, read) -> None:
    evidence = batch.observe(net, read)
    x_BCHW = batch.x_BCHW.clone().requires_grad_()
    logits_BK = net(x_BCHW)
    loss = softened_kl(logits_BK, evidence.teacher.logits_BK, TEMPERATURE)
    (gradient_BCHW,) = torch.autograd.grad(loss if read == "input_kernel" else logits_BK.sum(), x_BCHW)
    found_BB = evidence.input_kernel_BB if read == "input_kernel" else evidence.jacobian_BB
    torch.testing.assert_close(found_BB, torch.corrcoef(gradient_BCHW.flatten(1)), rtol=1e-3, atol=1e-3)


def test_each_stage_has_its_gram_matrix(batch, net) -> None:
    evidence, maps = batch.observe(net, "relations"), []
    for name in stage_names(net):
        net.get_submodule(name).register_forward_hook(
            lambda _m, _i, out: maps.append(first_tensor(out).detach().clone())
        )
    net(batch.x_BCHW)
    assert len(evidence.student.grams_BB) == len(maps) >= 2
    for gram_BB, map_BX in zip(evidence.student.grams_BB, maps, strict=True):
        torch.testing.assert_close(gram_BB, gram(map_BX), rtol=1e-4, atol=1e-4 * float(gram_BB.max()))


@pytest.mark.parametrize("name", ["cifar_resnet", "vit_tiny_patch16_224"])
def test_a_tangent_kernel_is_made_of_gradients_taken_image_by_image(batch, build, name: str) -> None:
    """Of one random projection of the logits and of each kernel's centre; a teacher's norms couple no images."""
    model = build(name).eval()
    sign_K = torch.randint(0, 2, (10,), generator=torch.Generator().manual_seed(PROJECTION_SEED)) * 2.0 - 1
    weights, rows = [layer.weight for _, layer in weighted(model)], []
    for x_1CHW in batch.x_BCHW.split(1):
        found = torch.autograd.grad((model(x_1CHW) * sign_K).sum(), weights)
        taps = [g[:, :, g.shape[2] // 2, g.shape[3] // 2] if g.ndim == 4 else g for g in found]
        rows.append(torch.cat([tap.flatten() for tap in taps]))
    jacobian_BP = torch.stack(rows)
    found_BB = batch.teacher(model, "ntk").ntk_BB
    torch.testing.assert_close(found_BB, jacobian_BP @ jacobian_BP.T, rtol=1e-3, atol=1e-3)


def test_fisher_information_is_on_average_that_of_the_students_own_answers(batch, build) -> None:
    """E_x Σ_c p_c ∇log p_c ∇log p_cᵀ over first weights, of kernels at their centre."""
    model = build("vit_tiny_patch16_224", depth=1)
    # Answers at initialisation are all but equal; larger ones tell whether they are drawn at their odds.
    nn.init.normal_(model.head.weight, std=2.0)
    weights = [layer.weight for _, layer in weighted(model)]
    expected_PP = torch.zeros(len(weights), len(weights))
    for x_1CHW in batch.x_BCHW.split(1):
        log_p_K = model(x_1CHW).log_softmax(1)[0]
        for log_p in log_p_K:
            found = torch.autograd.grad(log_p, weights, retain_graph=True)
            first_P = torch.stack(
                [g[0, 0, g.shape[2] // 2, g.shape[3] // 2] if g.ndim == 4 else g[0, 0] for g in found]
            )
            expected_PP += log_p.exp().detach() * torch.outer(first_P, first_P) / len(batch.x_BCHW)
    torch.manual_seed(0)
    drawn = [batch.observe(model, "fisher_information").fisher_information_PP for _ in range(40)]
    # 40 times 8 labels for each of 16 images: 5,120 draws.
    mean_PP = torch.stack(drawn).mean(0).flip(0, 1)  # layers stand in the order the backward pass comes by them
    assert (mean_PP - expected_PP).norm() / expected_PP.norm() < 0.1


def test_fisher_information_of_many_labels_is_on_average_that_of_independent_answers(many, build) -> None:
    """E_x Σ_k p_k (1 − p_k) ∇z_k ∇z_kᵀ over first weights, of kernels at their centre: what drawing sets tends to."""
    model = build("vit_tiny_patch16_224", depth=1, img_size=(8, 16))
    nn.init.normal_(model.head.weight, std=2.0)
    weights = [layer.weight for _, layer in weighted(model)]
    expected_PP = torch.zeros(len(weights), len(weights))
    for x_1CHW in many.x_BCHW.split(1):
        for logit in model(x_1CHW)[0]:
            found = torch.autograd.grad(logit, weights, retain_graph=True)
            first_P = torch.stack(
                [g[0, 0, g.shape[2] // 2, g.shape[3] // 2] if g.ndim == 4 else g[0, 0] for g in found]
            )
            variance = (logit.sigmoid() * (-logit).sigmoid()).detach()
            expected_PP += variance * torch.outer(first_P, first_P) / len(many.x_BCHW)
    torch.manual_seed(0)
    drawn = [many.observe(model, "fisher_information").fisher_information_PP for _ in range(40)]
    mean_PP = torch.stack(drawn).mean(0).flip(0, 1)
    assert (mean_PP - expected_PP).norm() / expected_PP.norm() < 0.1


def test_random_numbers_follow_the_callers_seed(batch, net) -> None:
    reads = ("gains", "spectral_gains", "fisher_information")
    evidence = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        evidence.append(batch.observe(net, *reads))
    first, again, other = evidence
    for name in ("gains", "spectral_gains"):
        assert torch.stack(getattr(first, name)).equal(torch.stack(getattr(again, name)))
        assert not torch.stack(getattr(first, name)).equal(torch.stack(getattr(other, name)))
    assert first.fisher_information_PP.equal(again.fisher_information_PP)


def test_half_precision_gives_nearly_the_same_evidence_in_full(batch, net, every_read) -> None:
    reads = every_read - {"synflow", "zen", "grasp", "zico"}  # passes of their own are always exact
    torch.manual_seed(0)
    full = batch.observe(net, *reads)
    torch.manual_seed(0)
    half = batch.observe(net, *reads, precision="bf16")
    # Gradients at the image have gone through every layer in half precision, there and back.
    least = {"input_kernel": 0.9, "jacobian": 0.9}
    kernels = {
        f"gram{i}": pair for i, pair in enumerate(zip(full.student.grams_BB, half.student.grams_BB, strict=True))
    }
    kernels |= {
        "ntk": (full.student.ntk_BB, half.student.ntk_BB),
        "codes": (full.codes.products_BB, half.codes.products_BB),
        "input_kernel": (full.input_kernel_BB, half.input_kernel_BB),
        "jacobian": (full.jacobian_BB, half.jacobian_BB),
    }
    for name, (full_BB, half_BB) in kernels.items():
        assert half_BB.dtype == torch.float32, name
        assert float(cka(full_BB, half_BB)) > least.get(name, 0.98), name
    assert half.student.logits_BK.dtype == half.student.head_gradient_KD.dtype == torch.float32
    torch.testing.assert_close(half.student.logits_BK, full.student.logits_BK, rtol=0.05, atol=0.05)
    for name in ("gains", "spectral_gains"):
        torch.testing.assert_close(torch.stack(getattr(half, name)), torch.stack(getattr(full, name)), rtol=0.1, atol=0)
    for full_C, half_C in zip(full.spectra, half.spectra, strict=True):
        assert half_C.dtype == torch.float32
        assert half_C.sum().item() == pytest.approx(full_C.sum().item(), rel=0.05)
    for a, b in zip(full.samples, half.samples, strict=True):
        assert b.snr.dtype == torch.float32
        assert b.snr.item() == pytest.approx(a.snr.item(), rel=0.15), a.layer.name
    assert [bool(alive) for _, alive in half.live] == [bool(alive) for _, alive in full.live]


@pytest.mark.parametrize("name", ["cifar_resnet", "vit_tiny_patch16_224"])
def test_the_teacher_is_left_as_it_was(batch, build, name: str) -> None:
    teacher = build(name).eval()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    seen = batch.teacher(teacher, "relations", "head", "ntk")
    assert all(value.equal(before[name]) for name, value in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())
    assert not batch.x_BCHW.requires_grad
    found = [seen.logits_BK, *seen.grams_BB, seen.head_gradient_KD, seen.ntk_BB]
    assert not any(tensor.requires_grad for tensor in found)


def test_of_the_teacher_only_its_share_is_measured(batch, build, every_read) -> None:
    seen = batch.teacher(build("cifar_resnet").eval(), *(every_read - {"relations", "head", "ntk"}))
    assert (seen.grams_BB, seen.head_gradient_KD, seen.ntk_BB) == ((), None, None)


def test_hooks_go_even_when_the_network_fails(batch, net, every_read) -> None:
    x_BCHW = batch.x_BCHW.expand(-1, 5, -1, -1)
    with pytest.raises(RuntimeError):
        type(batch)(x_BCHW, batch.y_B).observe(net, *every_read)
    with pytest.raises(RuntimeError):
        observe_teacher(net, x_BCHW, batch.y_B, every_read)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_student_is_measured_in_train_mode_and_gets_no_gradients(batch, net, every_read) -> None:
    net.eval()
    evidence = batch.observe(net, *every_read)
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not evidence.student.logits_BK.requires_grad
    assert not batch.x_BCHW.requires_grad


def test_a_loaded_teacher_is_observed_with_its_weights_frozen(teacher: Teacher, batch) -> None:
    seen = batch.teacher(teacher.model.requires_grad_(False), "relations", "head", "ntk")
    assert not seen.logits_BK.requires_grad
    assert seen.head_gradient_KD.shape == (10, 32)
    assert seen.ntk_BB.shape == (16, 16)
    assert not teacher.model.training


@pytest.mark.parametrize(
    ("name", "args", "side", "stages"),
    [
        ("resnetv2_50", {"layers": [1, 1], "channels": [16, 24], "stem_chs": 8}, 32, 3),  # a convolution as head
        ("deit_tiny_distilled_patch16_224", {"img_size": 16, "embed_dim": 16, "num_heads": 2, "depth": 2}, 16, 2),
        ("pit_ti_224", {"img_size": 32, "base_dims": [8, 8, 8], "depth": [1, 1, 1]}, 32, 3),  # stages give tuples
        ("coat_tiny", {"img_size": 32, "embed_dims": [16] * 4, "serial_depths": [1] * 4}, 32, 0),  # names no stages
        ("tf_mobilenetv3_small_minimal_100", {}, 32, 5),  # pads at run time
    ],
)
def test_teachers_of_unlike_families_are_observed(name: str, args: dict, side: int, stages: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=5, **args).eval()
    x_BCHW, y_B = torch.rand(4, 3, side, side), torch.tensor([0, 1, 2, 3])
    seen = observe_teacher(model, x_BCHW, y_B, {"relations", "head", "ntk"})
    assert isinstance(seen, NetworkEvidence)
    assert len(seen.grams_BB) == stages
    assert all(gram_BB.shape == (4, 4) for gram_BB in seen.grams_BB)
    assert seen.head_gradient_KD.shape[0] == 5
    assert seen.head_gradient_KD.ndim == 2
    assert seen.head_gradient_KD.isfinite().all()
    assert seen.ntk_BB.shape == (4, 4)
    assert seen.ntk_BB.isfinite().all()
