"""timm's MobileNetV3 and EfficientNet from block definitions given as arguments, which timm's entry points keep inside.

A definition is timm's own: `ir_r1_k3_s2_e4_c24_se0.25` is an inverted residual block of kernel 3, stride 2, expansion
4 and 24 channels, with squeeze-excite at a quarter.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from timm.layers.activations import HardSigmoid
from timm.layers.create_act import get_act_layer
from timm.models import build_model_with_cfg
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from torch import nn

from archsearch.models.entry import offer, untrained


def _network(
    network: type[nn.Module],
    stages: Sequence[Sequence[str]],
    stem_stride: int = 2,
    act_layer: str = "hard_swish",
    bn_eps: float = 1e-5,
    **kwargs: Any,
) -> nn.Module:
    """The network of timm's class.

    Args:
        stages: Block definitions of each stage.
        stem_stride: 1 or 2; timm's own is 2.
        act_layer: Where a definition says nothing else, by timm's name.
    """
    model = network(
        decode_arch_def([list(stage) for stage in stages]),  # type: ignore[no-untyped-call]
        act_layer=get_act_layer(act_layer),
        norm_layer=partial(nn.BatchNorm2d, eps=bn_eps),
        # Channels are what the definitions say, not multiples of eight near them.
        round_chs_fn=int,
        fix_stem=True,
        **kwargs,
    )
    stem = model.get_submodule("conv_stem")
    assert isinstance(stem, nn.Conv2d)
    stem.stride = (stem_stride, stem_stride)
    # The stem is the first level, each of which was reported as twice as far reduced as it is where it keeps its size.
    for level in model.feature_info:  # type: ignore[union-attr]
        level["reduction"] = level["reduction"] * stem_stride // 2
    return model


def _mobilenet(stages: Sequence[Sequence[str]], **kwargs: Any) -> nn.Module:
    # Not torch's own hard sigmoid, which has no second derivative for GraSP to take.
    gate: dict[str, Any] = {"gate_layer": HardSigmoid, "force_act_layer": nn.ReLU, "rd_round_fn": round_channels}
    return _network(MobileNetV3, stages, se_layer=partial(SqueezeExcite, **gate), **kwargs)


def _efficientnet(stages: Sequence[Sequence[str]], **kwargs: Any) -> nn.Module:
    return _network(EfficientNet, stages, **kwargs)


default_cfgs = untrained("mobilenet_blocks", "efficientnet_blocks", first_conv="conv_stem", classifier="classifier")


def mobilenet_blocks(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm's entry point: `timm.create_model("mobilenet_blocks", stages=[["ir_r1_k3_s2_e4_c24"]], stem_size=16)`."""
    model: nn.Module = build_model_with_cfg(_mobilenet, "mobilenet_blocks", pretrained, **kwargs)
    return model


def efficientnet_blocks(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """timm's entry point: `timm.create_model("efficientnet_blocks", stages=[["ir_r1_k3_s2_e4_c24"]], stem_size=32)`."""
    model: nn.Module = build_model_with_cfg(_efficientnet, "efficientnet_blocks", pretrained, **kwargs)
    return model


offer(mobilenet_blocks)
offer(efficientnet_blocks)

__all__ = ["efficientnet_blocks", "mobilenet_blocks"]
