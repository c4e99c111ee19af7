"""timm's ResNet with a stem for small images: one 3×3 convolution, no pooling, and strides to choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from archsearch.models.entry import offer, untrained

BLOCKS: dict[str, Any] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class SmallResNet(ResNet):
    """timm's ResNet, whose stem and strides its own arguments cannot change.

    Args:
        block: basic or bottleneck.
        layers: Blocks in each of the four stages.
        channels: Channels of each stage; bottlenecks put out four times as many.
        stem_chs: Channels of the stem; even.
        strides: Of the stem and the four stages, 1 or 2 each.
    """

    def __init__(
        self,
        block: str = "basic",
        layers: Sequence[int] = (2, 2, 2, 2),
        channels: Sequence[int] = (64, 128, 256, 512),
        stem_chs: int = 64,
        strides: Sequence[int] = (1, 1, 2, 2, 2),
        in_chans: int = 3,
        **kwargs: Any,
    ) -> None:
        if len(layers) != 4 or len(channels) != 4 or len(strides) != 5 or stem_chs % 2:
            raise ValueError(f"four stages, five strides and an even stem, not {layers=} {channels=} {strides=}")
        # Only of a deep stem does timm let the width be chosen; its three convolutions give way to one.
        stem: dict[str, Any] = {"stem_type": "deep", "stem_width": stem_chs // 2}
        super().__init__(BLOCKS[block], tuple(layers), in_chans=in_chans, channels=tuple(channels), **stem, **kwargs)
        conv = nn.Conv2d(in_chans, stem_chs, 3, strides[0], 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.conv1, self.maxpool = conv, nn.Identity()  # type: ignore[assignment]
        reduction = strides[0]
        self.feature_info[0]["reduction"] = reduction
        for i, stride in enumerate(strides[1:], 1):
            first = self.get_submodule(f"layer{i}")[0]  # type: ignore[index]
            restride(first, stride)
            reduction *= stride
            self.feature_info[i]["reduction"] = reduction


def restride(block: nn.Module, stride: int) -> None:
    """Give a stage's first block another stride: its 3×3 convolution's, and its shortcut's."""
    for name, layer in block.named_modules():
        strided = "conv2" if isinstance(block, Bottleneck) else "conv1"
        if isinstance(layer, nn.Conv2d) and (name == strided or name.startswith("downsample")):
            layer.stride = (stride, stride)
    block.stride = stride  # type: ignore[assignment]


default_cfgs = untrained("resnet_small", first_conv="conv1", classifier="fc")


def resnet_small(pretrained: bool = False, **kwargs: Any) -> SmallResNet:
    """timm's entry point: `timm.create_model("resnet_small", block="basic", layers=[2, 2, 2, 2])`."""
    model: SmallResNet = build_model_with_cfg(SmallResNet, "resnet_small", pretrained, **kwargs)
    return model


offer(resnet_small)

__all__ = ["SmallResNet", "resnet_small"]
