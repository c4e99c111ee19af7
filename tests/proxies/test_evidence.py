from __future__ import annotations

import pytest
import timm
import torch
from torch.nn.functional import cross_entropy

from archsearch.kernels import relation, softened_kl
from archsearch.proxies.evidence import TEMPERATURE, observe_student, observe_teacher, stage_names
from archsearch.teachers import Teacher

# B batch, K classes, D features


def test_the_head_gradient_is_autograds(pair) -> None:
    evidence = pair.evidence()
    for model, seen in ((pair.student().train(), evidence.student), (pair.teacher, evidence.teacher)):
        weight = model.get_classifier().weight
        (expected_KD,) = torch.autograd.grad(cross_entropy(model(pair.x_BCHW), pair.y_B), weight)
        torch.testing.assert_close(seen.head_gradient_KD, expected_KD, rtol=1e-4, atol=1e-6)


def test_the_weights_gradients_are_those_of_the_distillation_loss(pair) -> None:
    evidence, student = pair.evidence(), pair.student().train()
    loss = softened_kl(student(pair.x_BCHW), evidence.teacher.logits_BK, TEMPERATURE)
    matrices = {name: p for name, p in student.named_parameters() if p.ndim >= 2}
    assert [weight.name for weight in evidence.weights] == list(matrices)
    for weight, gradient in zip(evidence.weights, torch.autograd.grad(loss, list(matrices.values())), strict=True):
        torch.testing.assert_close(weight.value, matrices[weight.name].detach())
        torch.testing.assert_close(weight.gradient, gradient, rtol=1e-3, atol=1e-6)


def test_only_the_classifier_is_head(pair) -> None:
    student = pair.student()
    head = [name for name, p in student.named_parameters() if p is student.get_classifier().weight]
    assert [weight.name for weight in pair.evidence().weights if weight.is_head] == head


def test_each_stage_has_its_relation(pair) -> None:
    evidence = pair.evidence()
    assert len(evidence.student.relations_BB) == len(stage_names(pair.student())) >= 2
    last_BB = relation(pair.teacher.forward_features(pair.x_BCHW).detach())
    torch.testing.assert_close(evidence.teacher.relations_BB[-1], last_BB)


def test_the_teacher_is_left_as_it_was(pair) -> None:
    before = {name: value.clone() for name, value in pair.teacher.state_dict().items()}
    pair.fresh_evidence()
    assert all(value.equal(before[name]) for name, value in pair.teacher.state_dict().items())
    assert not any(module.training for module in pair.teacher.modules())
    assert all(p.grad is None for p in pair.teacher.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pair.teacher.modules())


def test_hooks_go_even_when_the_network_fails(pair) -> None:
    student, teacher = pair.student(), observe_teacher(pair.teacher, pair.x_BCHW, pair.y_B)
    with pytest.raises(RuntimeError):
        observe_student(student, pair.x_BCHW.expand(-1, 5, -1, -1), pair.y_B, teacher)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())


def test_a_loaded_teacher_is_observed_without_a_graph(teacher: Teacher, pair) -> None:
    seen = observe_teacher(teacher.model, pair.x_BCHW, pair.y_B)
    assert not seen.logits_BK.requires_grad
    assert seen.head_gradient_KD.shape == (10, 32)
    assert not teacher.model.training


@pytest.mark.parametrize(
    ("name", "args", "side", "stages"),
    [
        ("resnetv2_50", {"layers": [1, 1], "channels": [16, 24], "stem_chs": 8}, 32, 3),  # a convolution as head
        ("deit_tiny_distilled_patch16_224", {"img_size": 16, "embed_dim": 16, "num_heads": 2, "depth": 2}, 16, 2),
        ("pit_ti_224", {"img_size": 32, "base_dims": [8, 8, 8], "depth": [1, 1, 1]}, 32, 3),  # stages give tuples
        ("coat_tiny", {"img_size": 32, "embed_dims": [16] * 4, "serial_depths": [1] * 4}, 32, 0),  # names no stages
    ],
)
def test_teachers_of_unlike_families_are_observed(name: str, args: dict, side: int, stages: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=5, **args).eval()
    seen = observe_teacher(model, torch.rand(4, 3, side, side), torch.tensor([0, 1, 2, 3]))
    assert len(seen.relations_BB) == stages
    assert all(relation_BB.shape == (4, 4) for relation_BB in seen.relations_BB)
    assert seen.head_gradient_KD.shape[0] == 5
    assert seen.head_gradient_KD.ndim == 2
    assert seen.head_gradient_KD.isfinite().all()
