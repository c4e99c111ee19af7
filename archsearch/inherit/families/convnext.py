"""timm's ConvNeXts with a patch stem, version 2 included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsearch.inherit.layout import Drawing, names

if TYPE_CHECKING:
    from torch import nn


def draw(model: nn.Module) -> Drawing | None:
    from timm.models.convnext import ConvNeXt
    from torch import nn

    if not isinstance(model, ConvNeXt):
        return None
    seen: Any = model
    drawing, stream = Drawing(model), "stem"
    drawing.layer("stem.0", None, stream)
    drawing.norm("stem.1", stream)
    for number, stage in enumerate(seen.stages):
        writes, shrinks = f"stage{number}", f"stages.{number}.downsample"
        if isinstance(stage.downsample, nn.Identity):
            drawing.same(writes, stream)
        else:
            drawing.norm(f"{shrinks}.0", stream)
            drawing.layer(f"{shrinks}.1", stream, writes)
        stream = writes
        blocks = names(stage.blocks, f"stages.{number}.blocks")
        drawing.stages.append(blocks)
        for name in blocks:
            _block(drawing, name, stream)
    drawing.norm("head.norm", stream)
    drawing.layer("head.fc", stream, None)
    return drawing


def _block(drawing: Drawing, name: str, stream: str) -> None:
    block: Any = drawing.model.get_submodule(name)
    inner = f"{name}/inner"
    drawing.grouped(f"{name}.conv_dw", stream)
    drawing.norm(f"{name}.norm", stream)
    drawing.layer(f"{name}.mlp.fc1", stream, inner)
    if hasattr(block.mlp, "grn") and block.mlp.grn.state_dict():
        drawing.each(f"{name}.mlp.grn", inner)
    drawing.layer(f"{name}.mlp.fc2", inner, stream)
    if block.gamma is not None:
        drawing.tensor(f"{name}.gamma", stream)
