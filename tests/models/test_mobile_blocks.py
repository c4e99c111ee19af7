from __future__ import annotations

import pytest
import timm
import torch

import archsearch.models  # noqa: F401  (registers with timm)

# B batch, C channels, H W space

# MobileNetV3-Small and EfficientNet-B0 by their papers' tables.
SMALL = [
    ["ds_r1_k3_s2_e1_c16_se0.25_nre"],
    ["ir_r1_k3_s2_e4.5_c24_nre", "ir_r1_k3_s1_e3.67_c24_nre"],
    ["ir_r1_k5_s2_e4_c40_se0.25", "ir_r2_k5_s1_e6_c40_se0.25"],
    ["ir_r2_k5_s1_e3_c48_se0.25"],
    ["ir_r3_k5_s2_e6_c96_se0.25"],
    ["cn_r1_k1_s1_c576"],
]
B0 = [
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s2_e6_c24_se0.25"],
    ["ir_r2_k5_s2_e6_c40_se0.25"],
    ["ir_r3_k3_s2_e6_c80_se0.25"],
    ["ir_r3_k5_s1_e6_c112_se0.25"],
    ["ir_r4_k5_s2_e6_c192_se0.25"],
    ["ir_r1_k3_s1_e6_c320_se0.25"],
]


@pytest.mark.parametrize(
    ("entry", "args", "stock"),
    [
        ("mobilenet_blocks", {"stages": SMALL, "stem_size": 16, "num_features": 1024}, "mobilenetv3_small_100"),
        ("efficientnet_blocks", {"stages": B0, "stem_size": 32, "act_layer": "swish"}, "efficientnet_b0"),
    ],
)
def test_timms_own_definitions_make_timms_own_network(entry: str, args: dict[str, object], stock: str) -> None:
    ours = timm.create_model(entry, num_classes=10, **args).eval()
    theirs = timm.create_model(stock, num_classes=10).eval()
    theirs.load_state_dict(ours.state_dict())
    x_BCHW = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x_BCHW), theirs(x_BCHW))


@pytest.mark.parametrize(("stem_stride", "side"), [(1, 16), (2, 8)])
def test_the_stem_may_keep_the_size(stem_stride: int, side: int) -> None:
    stages = [["ir_r1_k3_s1_e2_c12"], ["ir_r2_k5_s2_e3_c20_se0.25"]]
    model = timm.create_model("mobilenet_blocks", stages=stages, stem_size=8, stem_stride=stem_stride).eval()
    assert model.forward_features(torch.rand(1, 3, 32, 32)).shape == (1, 20, side, side)
    assert model.feature_info[-1]["reduction"] == 32 // side
    assert model.conv_stem.out_channels == 8


def test_squeeze_excite_has_the_second_derivative_that_grasp_takes() -> None:
    model = timm.create_model("mobilenet_blocks", stages=[["ir_r1_k3_s2_e2_c16_se0.25"]], stem_size=8, num_classes=2)
    weight = model.blocks[0][0].se.conv_reduce.weight
    (first,) = torch.autograd.grad(model(torch.rand(2, 3, 8, 8)).square().sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weight)
    assert second.isfinite().all()
