from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from archsearch.evidence.layers import (
    blocks,
    classifier,
    first_tensor,
    first_weight_gradient,
    sample_gradients,
    stage_names,
    weighted,
)
from archsearch.models.cifar_resnet import Block
from archsearch.models.nasbench201 import Cell, Reduction

# B batch, C channels, H W space, O outputs, I inputs

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "padded": {"padding": 1},
    "padded beyond its half": {"padding": 2},
    "stride": {"stride": 2, "padding": 1},
    "stride without padding": {"stride": 2},
    "stride of three, padded beyond its half": {"stride": 3, "padding": 2},
    "groups": {"padding": 1, "groups": 2},
    "depthwise": {"padding": 1, "groups": 4, "stride": 2},
    "dilation": {"padding": 2, "dilation": 2},
    "dilation without padding": {"dilation": 2},
    "same": {"padding": "same"},
    "same, dilated": {"padding": "same", "dilation": 2},
    "valid": {"padding": "valid"},
    "1×1": {"kernel_size": 1},
    "1×1, padded": {"kernel_size": 1, "padding": 1},
    "1×1, stride": {"kernel_size": 1, "stride": 2},
    "patches": {"kernel_size": 2, "stride": 2},
    "even, same": {"kernel_size": 4, "padding": "same"},
    "unequal sides": {"kernel_size": (1, 5), "padding": (0, 2), "stride": (2, 1)},
    "larger than the map": {"kernel_size": 9, "padding": 4},
}


def one_by_one(layer: nn.Module, x: Tensor, gradient: Tensor) -> Tensor:
    """The centre tap of each image's gradient, by autograd, for what comes back at the layer's output."""
    found = []
    for x_1, gradient_1 in zip(x.split(1), gradient.split(1), strict=True):
        (weight,) = torch.autograd.grad(layer(x_1), layer.weight, gradient_1)
        found.append(weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] if weight.ndim == 4 else weight)
    return torch.stack(found)


def check(layer: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        gradient = torch.randn_like(layer(x))
    expected_BOI = one_by_one(layer, x, gradient)
    torch.testing.assert_close(sample_gradients(layer, x, gradient), expected_BOI, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first_weight_gradient(layer, x, gradient), expected_BOI[:, 0, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("args", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_convolutions_sample_gradients_are_autograds(
    args: dict[str, Any], side: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, **{"kernel_size": 3, **args}).to(memory_format=memory_format)
    check(layer, torch.randn(3, 4, side, side).contiguous(memory_format=memory_format))


@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [7, 8])
def test_so_are_those_of_convolutions_that_pad_at_run_time(kernel: int, stride: int, side: int) -> None:
    torch.manual_seed(0)
    check(Conv2dSame(2, 3, kernel, stride), torch.randn(3, 2, side, side))


@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 4), (3, 2, 5, 4)], ids=["features", "tokens", "maps"])
def test_a_linear_layers_sample_gradients_are_autograds(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    check(nn.Linear(4, 6), torch.randn(shape))


def test_in_half_precision_a_layers_input_is_taken_as_the_layer_took_it() -> None:
    torch.manual_seed(0)
    for layer, x in ((nn.Conv2d(2, 3, 3, padding=1), torch.randn(3, 2, 6, 6)), (nn.Linear(4, 6), torch.randn(3, 5, 4))):
        gradient = torch.randn_like(layer(x))
        found_BOI = sample_gradients(layer, x, gradient.bfloat16())
        expected_BOI = sample_gradients(layer, x, gradient)
        torch.testing.assert_close(found_BOI.float(), expected_BOI, rtol=0.05, atol=0.1)


def test_blocks_are_residual_blocks_cells_and_transformer_layers(build) -> None:
    resnet = build("cifar_resnet")
    assert blocks(resnet) == [m for m in resnet.modules() if isinstance(m, Block)]
    cells = build("nasbench201", cells=2)
    assert blocks(cells) == [m for m in cells.modules() if isinstance(m, Cell | Reduction)]
    vit = build("vit_tiny_patch16_224")
    assert blocks(vit) == list(vit.blocks)
    pit = build("pit_ti_224")
    assert blocks(pit) == [m for m in pit.modules() if type(m).__name__ == "Block"]


def test_cells_without_weights_are_no_blocks(build) -> None:
    cells = build("nasbench201", cell=["skip_connect"] * 6)
    assert blocks(cells) == [m for m in cells.modules() if isinstance(m, Reduction)]


def test_blocks_of_timms_resnet() -> None:
    model = timm.create_model("resnet18", pretrained=False)
    assert blocks(model) == [m for m in model.modules() if type(m).__name__ == "BasicBlock"]
    assert len(blocks(model)) == 8


def test_a_stack_of_plain_layers_has_no_blocks() -> None:
    assert blocks(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))) == []


def test_weighted_layers_come_in_order_and_without_norms(build) -> None:
    names = [name for name, _ in weighted(build("vit_tiny_patch16_224", depth=1))]
    assert names == [
        "patch_embed.proj",
        "blocks.0.attn.qkv",
        "blocks.0.attn.proj",
        "blocks.0.mlp.fc1",
        "blocks.0.mlp.fc2",
        "head",
    ]


def test_of_two_heads_the_one_for_the_labels_is_the_classifier() -> None:
    args = {"img_size": 16, "embed_dim": 16, "num_heads": 2, "depth": 1}
    model = timm.create_model("deit_tiny_distilled_patch16_224", pretrained=False, num_classes=5, **args)
    assert classifier(model) is model.head


def test_stages_are_those_the_network_names(build) -> None:
    assert stage_names(build("cifar_resnet")) == ["layer1", "layer2", "layer3"]
    assert stage_names(build("vit_tiny_patch16_224")) == ["blocks.0", "blocks.1"]
    assert stage_names(nn.Linear(1, 1)) == []


def test_a_map_passed_on_with_others_comes_first() -> None:
    map_BD, other_BD = torch.zeros(1, 2), torch.ones(1, 3)
    assert first_tensor(map_BD) is map_BD
    assert first_tensor((map_BD, other_BD)) is map_BD
    assert first_tensor([map_BD, other_BD]) is map_BD


def test_a_stage_that_names_its_blocks_is_a_stack_of_them() -> None:
    model = timm.create_model("regnetx_002", depth=8, w0=8, wa=8.0, wm=2.0, group_size=8)
    assert blocks(model) == [m for m in model.modules() if type(m).__name__ == "Bottleneck"]
