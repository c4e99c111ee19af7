"""From a timm name and a client's arguments to an untrained network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from archsearch.errors import TeacherError, UnknownName

if TYPE_CHECKING:
    from torch import nn


def build(architecture: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """An untrained timm network; every way a client's arguments can be wrong becomes a TeacherError."""
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    if not timm.is_model(architecture):
        raise UnknownName("timm model", architecture, timm.list_models(), field="architecture")
    try:
        network: nn.Module = timm.create_model(architecture, pretrained=False, **kwargs)
    except (TypeError, ValueError, AssertionError, RuntimeError, KeyError, IndexError, AttributeError) as error:
        raise TeacherError(
            f"timm cannot build {architecture} with these arguments: {error}", field="model_args"
        ) from None
    return network
