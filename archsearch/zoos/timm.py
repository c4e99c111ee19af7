"""Networks of timm, and those of ours that are registered with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from archsearch.domains.images.task import ImageTask


def build(name: str, args: Mapping[str, Any], task: ImageTask) -> nn.Module:
    """An untrained network, with the task's head and channels, on the current default device."""
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    network: nn.Module = timm.create_model(name, num_classes=task.classes, in_chans=task.in_chans, **dict(args))
    return network
