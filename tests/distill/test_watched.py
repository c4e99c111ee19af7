from __future__ import annotations

import pytest
import timm
import torch

import archsearch.models  # noqa: F401  (registers with timm)
from archsearch.distill.loss import LossInputs, Sizes, losses
from archsearch.distill.watched import Watched, attention_of, comparable
from archsearch.errors import InvalidRequest
from archsearch.testing.texts import TinyEncoder, longer, texts

NETWORKS = {
    "cifar_resnet": ({}, 32, 3),
    "resnet18": ({}, 64, 3),
    "convnext_atto": ({}, 64, 3),
    "mobilenetv3_small_050": ({}, 64, 3),
    "vit_tiny_patch16_224": ({"img_size": 64, "depth": 4}, 64, 3),
    "deit_tiny_distilled_patch16_224": ({"img_size": 64, "depth": 4}, 64, 3),
    "swin_tiny_patch4_window7_224": ({"img_size": 64, "window_size": 2, "depths": (1, 1, 1, 1)}, 64, 3),
    "regnetx_002": ({}, 64, 3),
}


def network(name: str, classes: int = 7) -> tuple[torch.nn.Module, torch.Tensor]:
    args, size, channels = NETWORKS[name]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=classes, **args).eval()
    return model, torch.randn(2, channels, size, size)


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_come_as_maps_of_the_width_the_network_names(name: str) -> None:
    model, x_BCHW = network(name)
    stages, _ = comparable(model, model)
    watched = Watched(model, stages, {"logits", "stages", "embedding", "head"})
    outputs = watched.outputs(model(x_BCHW))
    widths = {stage["module"]: stage["num_chs"] for stage in model.feature_info}
    assert [m.shape[1] for m in outputs.maps] == [widths[stage] for stage in stages]
    assert all(m.ndim == 4 and m.shape[0] == 2 and m.shape[2] == m.shape[3] > 0 for m in outputs.maps)
    assert outputs.weight_KD is not None
    assert outputs.embedding_BD is not None
    assert outputs.embedding_BD.shape == (2, outputs.weight_KD.shape[1])
    assert not watched.kept, "nothing is held on to"
    watched.close()
    model(x_BCHW)
    assert not watched.kept


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_goes_on_from_the_map_it_showed_to_the_logits_it_gave(name: str) -> None:
    model, x_BCHW = network(name)
    stages, _ = comparable(model, model)
    watched = Watched(model, stages, {"logits", "stages", "tail"})
    with torch.no_grad():
        logits_BK = model(x_BCHW)
    outputs = watched.outputs(logits_BK)
    for i, map_BCHW in enumerate(outputs.maps):
        torch.testing.assert_close(watched.tail(x_BCHW, i, map_BCHW), logits_BK, rtol=1e-4, atol=1e-5)
        replaced_BCHW = torch.randn_like(map_BCHW).requires_grad_()
        other_BK = watched.tail(x_BCHW, i, replaced_BCHW)
        # Where a class token answers, the last block's other tokens are not listened to any more.
        heard = not (watched.prefix_tokens and i + 1 == len(outputs.maps))
        assert torch.equal(other_BK, logits_BK) is not heard
        (gradient_BCHW,) = torch.autograd.grad(other_BK.square().sum(), replaced_BCHW)
        assert bool(gradient_BCHW.any()) is heard, "gradients flow through the teacher's layers to the map"
    watched.close()


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ("cifar_resnet", "cifar_resnet", (["layer1", "layer2", "layer3"], ["layer1", "layer2", "layer3"])),
        (
            "vit_tiny_patch16_224",
            "convnext_atto",
            ([f"blocks.{i}" for i in range(4)], [f"stages.{i}" for i in range(4)]),
        ),
        (
            "cifar_resnet",
            "vit_tiny_patch16_224",
            (["layer1", "layer2", "layer3"], ["blocks.0", "blocks.2", "blocks.3"]),
        ),
    ],
)
def test_stages_of_two_families_meet_at_equal_shares_of_their_depth(
    student: str, teacher: str, expected: tuple[list[str], list[str]]
) -> None:
    found = comparable(network(student)[0], network(teacher)[0])
    assert found == tuple(map(tuple, expected))


def test_a_network_without_named_stages_is_refused_with_what_to_take_instead() -> None:
    with pytest.raises(InvalidRequest, match=r"the student's network names no stages.*take one that compares logits"):
        comparable(torch.nn.Linear(1, 1), network("resnet18")[0])


def test_an_encoder_shows_its_tokens_without_a_grid_and_which_of_them_are_real() -> None:
    model, x_B2T = TinyEncoder(layers=3).eval(), texts()
    watched = Watched(model, ("layers.0", "layers.2"), {"logits", "stages", "embedding"})
    outputs = watched.outputs(model(x_B2T))
    watched.close()
    assert [stage.size for stage in outputs.stages] == [(12,), (12,)]
    assert all(stage.grid is None for stage in outputs.stages)
    assert all(stage.mask_BN is not None and stage.mask_BN.equal(x_B2T[:, 1] >= 0) for stage in outputs.stages)
    assert outputs.stages[-1].tokens_BND.equal(model.forward_features(x_B2T))
    assert outputs.embedding_BD is not None
    assert outputs.embedding_BD.equal(outputs.stages[-1].tokens_BND[:, 0])
    with pytest.raises(InvalidRequest, match=r"lie on no grid; take kd"):
        _ = outputs.maps


def test_the_attention_that_is_asked_for_is_shown_and_no_other() -> None:
    model, x_B2T = TinyEncoder(layers=3).eval(), texts()
    watched = Watched(model, (), {"attention"}, {1})
    first, layer, last = watched.outputs(model(x_B2T)).attention
    assert first is None
    assert last is None
    assert layer is not None
    assert layer.mask_BT is not None
    assert layer.mask_BT.equal(x_B2T[:, 1] >= 0)
    assert layer.heads == 3
    projections, seen = model.attention_modules()[1], Watched(model, ("layers.0",), {"stages"})
    (before,) = seen.outputs(model(x_B2T)).stages
    for module, shown in (
        (projections.query, layer.query_BTD),
        (projections.key, layer.key_BTD),
        (projections.value, layer.value_BTD),
    ):
        assert shown.equal(module(before.values))
    assert not watched.kept.keys() - {"query1", "key1", "value1"}
    for each in (watched, seen):
        each.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_network_that_names_no_attention_is_refused_with_what_to_take_instead() -> None:
    with pytest.raises(InvalidRequest, match=r"the teacher names no attention.*such as kd"):
        attention_of(network("vit_tiny_patch16_224")[0], "teacher")


@pytest.mark.parametrize("name", ["minilm", "tinybert", "sp", "kd"])
def test_a_loss_of_two_encoders_does_not_depend_on_padding_and_its_gradient_lowers_it(name: str) -> None:
    torch.manual_seed(0)
    student, teacher, x_B2T = TinyEncoder(8, 2, 2), TinyEncoder(12, 3, 4).eval().requires_grad_(False), texts()
    loss, settings = losses.get(name), losses.get(name).settings()
    depths = loss.layers(2, 4, settings) if loss.layers else []
    stages = comparable(student, teacher)
    ours, theirs = (
        Watched(model, stages[i], loss.reads, [pair[i] for pair in depths])
        for i, model in enumerate((student, teacher))
    )
    sizes = Sizes(((8,),) * 2, ((12,),) * 2, 8, 12, 4, 100)
    adapter = None if loss.adapter is None else loss.adapter(sizes, settings)

    def value(x_B2T: torch.Tensor) -> torch.Tensor:
        outputs = ours.outputs(student(x_B2T)), theirs.outputs(teacher(x_B2T))
        y_B, row_B = torch.zeros(16, dtype=torch.long), torch.arange(16)
        return loss.compute(LossInputs(*outputs, y_B, row_B, adapter=adapter), settings)

    before = value(x_B2T)
    torch.testing.assert_close(value(longer(x_B2T, 5)), before, rtol=1e-5, atol=1e-7)
    optimizer = torch.optim.SGD(student.parameters(), 1e-3)
    before.backward()
    optimizer.step()
    assert value(x_B2T) < before
