"""timm's RegNets, and our small ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsearch.inherit.layout import Drawing

if TYPE_CHECKING:
    from torch import nn


def draw(model: nn.Module) -> Drawing | None:
    from timm.models.regnet import RegNet

    if not isinstance(model, RegNet):
        return None
    drawing, stream = Drawing(model), "stem"
    drawing.layer("stem.conv", None, stream)
    drawing.norm("stem.bn", stream)
    for number in range(1, 5):
        stage: Any = model.get_submodule(f"s{number}")
        blocks = tuple(f"s{number}.{name}" for name, _ in stage.named_children())
        drawing.stages.append(blocks)
        for name in blocks:
            stream = _block(drawing, name, stream, f"stage{number}")
    drawing.layer("head.fc", stream, None)
    return drawing


def _block(drawing: Drawing, name: str, reads: str, writes: str) -> str:
    block: Any = drawing.model.get_submodule(name)
    inner = f"{name}/inner"
    drawing.layer(f"{name}.conv1.conv", reads, inner)
    drawing.norm(f"{name}.conv1.bn", inner)
    # Of one group where it is no wider: a narrower student's may be, of a teacher's with several.
    drawing.grouped(f"{name}.conv2.conv", inner)
    drawing.norm(f"{name}.conv2.bn", inner)
    if hasattr(block.se, "fc1"):
        squeezed = f"{name}/squeezed"
        drawing.layer(f"{name}.se.fc1", inner, squeezed, aside=True)
        drawing.layer(f"{name}.se.fc2", squeezed, inner, aside=True)
    drawing.layer(f"{name}.conv3.conv", inner, writes)
    drawing.norm(f"{name}.conv3.bn", writes)
    if hasattr(block.downsample, "conv"):
        drawing.layer(f"{name}.downsample.conv", reads, writes)
        drawing.norm(f"{name}.downsample.bn", writes)
        drawing.shortcut(f"{name}.downsample.conv", f"{name}.downsample.bn")
    elif reads != writes:
        drawing.same(writes, reads)
    return writes
