"""The ResNet for small images (He et al. 2016, section 4.2) that CIFAR distillation tables are made of.

`depths=(3, 3, 3)` at widths (16, 32, 64) is ResNet-20, `(9, 9, 9)` ResNet-56, `(18, 18, 18)` ResNet-110.
"""

# B batch, C channels, H W space, K classes

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg
from torch import Tensor, nn

from archsearch.models.entry import offer, untrained

STRIDES = (1, 2, 2)


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut, ReLU after the addition (post-activation, version 1)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            conv = nn.Conv2d(width_in, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(width))
        self.act2 = nn.ReLU(inplace=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.act1(self.bn1(self.conv1(x_BCHW)))
        out: Tensor = self.act2(self.bn2(self.conv2(y_BCHW)) + self.downsample(x_BCHW))
        return out


class CifarResNet(nn.Module):
    """A stem at full resolution and three stages at strides 1, 2, 2; speaks timm's model interface.

    Args:
        depths: Blocks in each of the three stages.
        widths: Channels of each stage.
        stem: Channels of the stem; None is the first stage's (32 before 64, 128, 256 is ResNet-8×4, 32×4).
    """

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 3),
        widths: Sequence[int] = (16, 32, 64),
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        stem: int | None = None,
    ) -> None:
        super().__init__()
        if len(depths) != 3 or len(widths) != 3 or min(*depths, *widths) < 1:
            raise ValueError(f"cifar_resnet has three stages of at least one block, not {depths=} {widths=}")
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        stem = widths[0] if stem is None else stem
        self.conv1 = nn.Conv2d(in_chans, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.act1 = nn.ReLU(inplace=True)
        widths_in = (stem, widths[0], widths[1])
        for i, (depth, width_in, width, stride) in enumerate(zip(depths, widths_in, widths, STRIDES, strict=True), 1):
            first = Block(width_in, width, stride)
            self.add_module(f"layer{i}", nn.Sequential(first, *(Block(width, width, 1) for _ in range(depth - 1))))
        self.feature_info = [
            {"num_chs": width, "reduction": reduction, "module": f"layer{i}"}
            for i, width, reduction in zip((1, 2, 3), widths, (1, 2, 4), strict=True)
        ]
        self.num_features = self.head_hidden_size = widths[-1]
        self.reset_classifier(num_classes, global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        if global_pool not in ("avg", ""):
            raise ValueError(f"cifar_resnet pools by average, not {global_pool!r}")
        self.num_classes = num_classes
        self.global_pool = global_pool
        self.fc: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.act1(self.bn1(self.conv1(x_BCHW)))
        for i in (1, 2, 3):
            x_BCHW = self.get_submodule(f"layer{i}")(x_BCHW)
        return x_BCHW

    def forward_head(self, x_BCHW: Tensor, pre_logits: bool = False) -> Tensor:
        x = x_BCHW.mean((2, 3)) if self.global_pool else x_BCHW
        x = nn.functional.dropout(x, self.drop_rate, self.training)
        logits: Tensor = x if pre_logits else self.fc(x)
        return logits

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x_BCHW))


default_cfgs = untrained("cifar_resnet", first_conv="conv1", classifier="fc", pool_size=(8, 8))


def cifar_resnet(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """timm's entry point: `timm.create_model("cifar_resnet", depths=(3, 3, 3), widths=(16, 32, 64))`."""
    model: CifarResNet = build_model_with_cfg(CifarResNet, "cifar_resnet", pretrained, **kwargs)
    return model


offer(cifar_resnet)

__all__ = ["Block", "CifarResNet", "cifar_resnet"]
