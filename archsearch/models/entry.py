"""Networks offered to timm by name, with the configuration of weights nobody has trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
from timm.models import generate_default_cfgs, register_model


def untrained(*names: str, first_conv: str, classifier: str, **changes: Any) -> Any:
    """timm's default configurations for networks without weights of their own; a module's `default_cfgs`.

    Args:
        first_conv: Name of the layer that takes the image.
        classifier: Name of the layer that answers.
        changes: Fields that differ from a small image's.
    """
    config = {
        "input_size": (3, 32, 32),
        "num_classes": 100,
        "pool_size": (4, 4),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "first_conv": first_conv,
        "classifier": classifier,
    }
    return generate_default_cfgs({f"{name}.untrained": {**config, **changes} for name in names})


def offer(entry: Callable[..., Any]) -> None:
    """Register an entry point; its module may be loaded twice (by a test runner), which must not warn of itself."""
    if not timm.is_model(entry.__name__):
        register_model(entry)
