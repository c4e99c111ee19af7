"""Folders of image classifiers as the transformers library saves them, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

SMALL: dict[str, Any] = {"num_channels": 1, "num_labels": 10}
_TOKENS: dict[str, Any] = {
    **SMALL, "image_size": 8, "patch_size": 2, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32,
}  # fmt: skip
_STAGES: dict[str, Any] = {**SMALL, "hidden_sizes": [8, 16], "depths": [1, 1]}
_WINDOWS: dict[str, Any] = {
    **SMALL, "image_size": 8, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": _TOKENS,
    "deit": _TOKENS,
    "beit": _TOKENS,
    "dinov2": _TOKENS,
    "swin": _WINDOWS,
    "resnet": {**_STAGES, "embedding_size": 8, "layer_type": "basic"},
    "regnet": {**_STAGES, "embedding_size": 8, "groups_width": 8},
    "convnext": {**_STAGES, "num_stages": 2, "patch_size": 2, "image_size": 8},
    "mobilenet_v2": {**SMALL, "image_size": 8},
}
SHOWN = {
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.25], "image_std": [0.5],
    "do_resize": True, "size": {"height": 8, "width": 8},
}  # fmt: skip


def stock(kind: str, **fields: Any) -> Any:
    """An untrained network, the same every time."""
    config = transformers.AutoConfig.for_model(kind, **{**CONFIGS[kind], **fields})
    config.architectures = [transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[kind]]
    if kind == "deit":
        config.architectures = ["DeiTForImageClassification"]
    torch.manual_seed(0)
    return transformers.AutoModelForImageClassification.from_config(config).eval()


def write_images_folder(folder: Path, network: Any, **shown: Any) -> Path:
    """The library's own files, and how images are shown."""
    transformers.utils.logging.disable_progress_bar()
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**SHOWN, **shown}))
    return folder
