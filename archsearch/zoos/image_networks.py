"""The networks of images in the transformers library that are known here; imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# By `model_type`: those that take pixels and nothing else, and answer with a row of logits an image.
IMAGE_TYPES = frozenset(
    [
        "beit", "bit", "convnext", "convnextv2", "cvt", "data2vec-vision", "deit", "dinov2", "dinov2_with_registers",
        "efficientnet", "focalnet", "hiera", "ijepa", "levit", "mobilenet_v1", "mobilenet_v2", "mobilevit",
        "mobilevitv2", "poolformer", "pvt", "pvt_v2", "regnet", "resnet", "swiftformer", "swin", "swinv2", "textnet",
        "vit", "vit_msn",
    ]
)  # fmt: skip


def is_image_network(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is the transformers library's, and of such a network."""
    return "pretrained_cfg" not in config and config.get("model_type") in IMAGE_TYPES
