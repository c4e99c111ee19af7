"""The teacher's own space: recognised, exact, and refused where its family's sizes do not tell the whole of it."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import archsearch.models  # noqa: F401  (registers with timm)
from archsearch import export
from archsearch.data.shape import Shape
from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.hardware import measure_model, size_bytes
from archsearch.spaces import Space, of_teacher

TINY_VIT = {"img_size": 32, "patch_size": 4, "class_token": False, "global_pool": "avg"}
# Name, arguments, side, whether students are stock.
TEACHERS: list[tuple[str, dict[str, Any], int, bool]] = [
    ("resnet18", {}, 224, True),
    ("resnet18", {"layers": [1, 2, 1, 1], "channels": [32, 64, 96, 128]}, 224, True),
    ("resnet50d", {}, 224, True),
    ("resnext50_32x4d", {}, 224, True),
    ("seresnet18", {}, 224, True),
    ("seresnext26d_32x4d", {}, 224, True),
    ("convnext_tiny", {"depths": [2, 1, 3, 1]}, 224, True),
    ("convnextv2_atto", {}, 224, True),
    ("mobilenetv3_large_100", {}, 224, False),
    ("tf_mobilenetv3_small_100", {}, 224, False),
    ("efficientnet_b0", {}, 224, False),
    ("tf_efficientnetv2_b0", {}, 224, False),
    ("mobilenetv2_100", {}, 224, False),
    ("regnetx_002", {}, 224, True),
    ("regnety_002", {}, 224, True),
    ("vit_tiny_patch16_224", {}, 224, True),
    ("vit_tiny_patch16_224", TINY_VIT, 32, True),
    ("deit_tiny_patch16_224", {}, 224, True),
    ("deit3_small_patch16_224", {"depth": 3}, 224, True),
    ("cifar_resnet", {"depths": [3, 2, 3]}, 32, False),
    ("resnet_small", {"layers": [1, 2, 1, 1]}, 32, False),
    ("mobilenet_blocks", {"stages": [["ir_r2_k3_s2_e4_c24_se0.25"], ["cn_r1_k1_s1_c96"]], "stem_stride": 1}, 32, False),
]


def task(side: int) -> ImageTask:
    return ImageTask(10, 3, side, side, (0.5,) * 3, (0.25,) * 3)


@cache
def space_of(name: str, args: str, side: int) -> Space:
    return of_teacher(teacher(name, **json.loads(args)), task(side))


def teacher(name: str, **args: Any) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, num_classes=10, **args)
    return model


@pytest.mark.parametrize(("name", "args", "side", "stock"), TEACHERS)
def test_the_largest_member_is_the_teacher_and_every_count_is_exact(
    name: str, args: dict[str, Any], side: int, stock: bool
) -> None:
    here, model = task(side), teacher(name, **args)
    space = space_of(name, json.dumps(args), side)
    assert (space.name, space.stock(here)) == ("teacher", stock)
    cost = space.cost(space.largest(here), here)
    assert cost == measure_model(model.requires_grad_(False), Shape((3, side, side)))
    rng = random.Random(name)
    some = {p.name: rng.choice(p.values) for p in space.parameters(here)}
    for architecture in (space.smallest(here), some):
        space.check(architecture, here)
        assert json.loads(json.dumps(dict(space.model(architecture, here).args)))
        with torch.device("meta"):
            student = space.build(architecture, here).requires_grad_(False)
        assert space.cost(architecture, here) == measure_model(student, Shape((3, side, side))), architecture
        stored = sum(value.nbytes for value in student.state_dict().values())
        assert size_bytes(space.count(architecture, here), "fp32") == stored


@pytest.mark.parametrize(("name", "args", "side", "stock"), TEACHERS)
def test_more_is_dearer(name: str, args: dict[str, Any], side: int, stock: bool) -> None:
    here, space = task(side), space_of(name, json.dumps(args), side)
    rng = random.Random(name)
    for _ in range(5):
        architecture = {p.name: rng.choice(p.values) for p in space.parameters(here)}
        cost = space.cost(architecture, here)
        for parameter in space.parameters(here):
            assert len(parameter.values) > 1
            more = architecture[parameter.name] + parameter.step
            if parameter.ordered and more in parameter.values:
                dearer = space.cost({**architecture, parameter.name: more}, here)
                assert dearer != cost
                assert dearer.params >= cost.params, (parameter, architecture)
                assert dearer.macs >= cost.macs, (parameter, architecture)


def test_a_resnets_sizes_by_hand() -> None:
    here = task(224)
    space = of_teacher(teacher("resnet18"), here)
    assert {p.name: (p.low, p.high, p.step) for p in space.parameters(here)} == {
        **{f"depth{i}": (1, 2, 1) for i in (1, 2, 3, 4)},
        **{f"width{i}": (1, 8, 1) for i in (1, 2, 3, 4)},
    }
    architecture = {f"depth{i}": 1 for i in (1, 2, 3, 4)} | {"width1": 1, "width2": 2, "width3": 4, "width4": 8}
    model = space.model(architecture, here)
    assert (model.name, model.args["layers"], model.args["channels"]) == ("resnet18", [1] * 4, [8, 32, 128, 512])


def test_students_keep_the_teachers_patch_and_head_width() -> None:
    here = task(32)
    space = of_teacher(teacher("vit_tiny_patch16_224", **TINY_VIT), here)
    model = space.model({"depth": 2, "heads": 2, "mlp_ratio": 3}, here)
    sizes = ("patch_size", "embed_dim", "num_heads", "depth", "mlp_ratio", "class_token")
    assert [model.args[name] for name in sizes] == [4, 128, 2, 2, 3, False]


@pytest.mark.parametrize(
    ("name", "args", "side", "part"),
    [
        ("swin_tiny_patch4_window7_224", {}, 224, "SwinTransformer is of no family"),
        ("deit_tiny_distilled_patch16_224", {}, 224, "VisionTransformerDistilled is of no family"),
        ("mixnet_s", {}, 224, "is of no family"),
        ("mobilenetv4_conv_small", {}, 224, "is of no family"),
        ("ecaresnet26t", {}, 224, "parts that other networks of its family lack"),
        ("skresnet18", {}, 224, "ResNet is of no family"),
        ("resnest14d", {}, 224, "ResNet is of no family"),
        ("test_efficientnet_evos", {}, 224, "EfficientNet is of no family"),
        ("vit_pwee_patch16_reg1_gap_256", {"depth": 1}, 256, "VisionTransformer is of no family"),
        ("resnet18", {"stem_type": "deep"}, 224, "parts that other networks of its family lack"),
        ("regnetx_002", {"depth": 12}, 224, "differs from other networks of its family"),
        ("resnet18", {"act_layer": "gelu"}, 224, "differs from other networks of its family"),
        ("resnet18", {"output_stride": 8}, 224, "differs from other networks of its family"),
        ("resnet18", {}, 16, "leaves nothing to pool of 16×16 pixels"),
    ],
)
def test_what_sizes_alone_do_not_tell_is_refused(name: str, args: dict[str, Any], side: int, part: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        of_teacher(teacher(name, **args), task(side))
    assert caught.value.field == "search.space"
    assert part in caught.value.detail
    assert "'auto'" in caught.value.detail


def test_a_network_of_nobodys_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"a Linear is of no family known here.*ConvNeXt.*use space 'auto'"):
        of_teacher(nn.Linear(2, 2), task(32))


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "regnetx_002", "vit_tiny_patch16_224", "mobilenetv2_100"]
)
def test_a_student_comes_back_from_its_files(name: str, tmp_path: Path) -> None:
    here, space = task(224), space_of(name, "{}", 224)
    student = space.build(space.smallest(here), here).eval()
    export.save_student(student, here, tmp_path)
    again = export.load_student(tmp_path).state_dict()
    assert all(value.equal(again[key]) for key, value in student.state_dict().items())
    assert export.load_config(tmp_path)["architecture"] == space.model(space.smallest(here), here).name


def test_the_teacher_is_left_as_it_was() -> None:
    model = timm.create_model("cifar_resnet", num_classes=10).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    of_teacher(model, task(32))
    assert model.training
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
