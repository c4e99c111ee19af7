"""timm's RegNet for small images: strides to choose, so that the map does not vanish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg
from timm.models.regnet import RegNet, RegNetCfg
from torch import nn

from archsearch.models.entry import offer, untrained


class SmallRegNet(RegNet):
    """timm's RegNet, whose strides its own arguments cannot change.

    Args:
        depth, w0, wa, wm, group_size, se_ratio, stem_width: Of the design space (Radosavovic et al. 2020).
        strides: Of the stem and the four stages, 1 or 2 each.
    """

    def __init__(
        self,
        depth: int = 13,
        w0: int = 24,
        wa: float = 36.44,
        wm: float = 2.49,
        group_size: int = 8,
        se_ratio: float = 0.0,
        stem_width: int = 32,
        strides: Sequence[int] = (1, 1, 2, 2, 2),
        **kwargs: Any,
    ) -> None:
        if len(strides) != 5:
            raise ValueError(f"a stem and four stages have five strides, not {strides=}")
        config = RegNetCfg(depth, w0, wa, wm, group_size, se_ratio=se_ratio, stem_width=stem_width)
        super().__init__(config, **kwargs)
        names = ["stem", *(f"s{i}.b1" for i in (1, 2, 3, 4))]
        reduction = 1
        for i, (name, stride) in enumerate(zip(names, strides, strict=True)):
            for layer_name, layer in self.get_submodule(name).named_modules():
                # The stem has one convolution; a block's second one and its shortcut are strided.
                if isinstance(layer, nn.Conv2d) and layer_name in ("conv", "conv2.conv", "downsample.conv"):
                    layer.stride = (stride, stride)
            reduction *= stride
            self.feature_info[i]["reduction"] = reduction


default_cfgs = untrained("regnet_small", first_conv="stem.conv", classifier="head.fc")


def regnet_small(pretrained: bool = False, **kwargs: Any) -> SmallRegNet:
    """timm's entry point: `timm.create_model("regnet_small", depth=13, w0=24, wa=36.44, wm=2.49)`."""
    model: SmallRegNet = build_model_with_cfg(SmallRegNet, "regnet_small", pretrained, **kwargs)
    return model


offer(regnet_small)

__all__ = ["SmallRegNet", "regnet_small"]
