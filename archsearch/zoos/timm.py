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


def take_over(teacher: nn.Module, model: nn.Module) -> None:
    """Load a network's weights into one of its kind and size that may be built for images of another size: positions
    of a transformer's patches are interpolated, as timm does it."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    state, own = teacher.state_dict(), model.state_dict()
    grid: Any = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if "pos_embed" in own and state["pos_embed"].shape != own["pos_embed"].shape:
        seen: Any = model
        prefix = 0 if seen.no_embed_class else seen.num_prefix_tokens
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], list(grid), num_prefix_tokens=prefix)
    model.load_state_dict(state)
