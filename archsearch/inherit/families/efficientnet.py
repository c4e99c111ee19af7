"""timm's MobileNetV3s and EfficientNets, ours from block definitions included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsearch.inherit.layout import Drawing, names

if TYPE_CHECKING:
    from torch import nn


def draw(model: nn.Module) -> Drawing | None:
    from timm.models.efficientnet import EfficientNet
    from timm.models.mobilenetv3 import MobileNetV3

    if not isinstance(model, (EfficientNet, MobileNetV3)):
        return None
    seen: Any = model
    drawing, stream = Drawing(model), "stem"
    drawing.layer("conv_stem", None, stream)
    drawing.norm("bn1", stream)
    for number, stage in enumerate(seen.blocks):
        blocks = names(stage, f"blocks.{number}")
        drawing.stages.append(blocks)
        for name in blocks:
            stream = _block(drawing, name, stream, f"stage{number}")
    drawing.layer("conv_head", stream, "head")
    for norm in ("bn2", "norm_head"):
        if hasattr(model, norm):
            drawing.norm(norm, "head")
    drawing.layer("classifier", "head", None)
    return drawing


def _block(drawing: Drawing, name: str, reads: str, writes: str) -> str:
    from timm.models._efficientnet_blocks import (
        ConvBnAct,
        DepthwiseSeparableConv,
        EdgeResidual,
        InvertedResidual,
    )

    block: Any = drawing.model.get_submodule(name)
    inner = f"{name}/inner"
    if type(block) is ConvBnAct:
        drawing.layer(f"{name}.conv", reads, writes)
        drawing.norm(f"{name}.bn1", writes)
    elif type(block) is DepthwiseSeparableConv:
        inner = reads  # it is not widened
        drawing.grouped(f"{name}.conv_dw", reads)
        drawing.norm(f"{name}.bn1", reads)
        drawing.layer(f"{name}.conv_pw", reads, writes)
        drawing.norm(f"{name}.bn2", writes)
    elif type(block) is InvertedResidual:
        drawing.layer(f"{name}.conv_pw", reads, inner)
        drawing.norm(f"{name}.bn1", inner)
        drawing.grouped(f"{name}.conv_dw", inner)
        drawing.norm(f"{name}.bn2", inner)
        drawing.layer(f"{name}.conv_pwl", inner, writes)
        drawing.norm(f"{name}.bn3", writes)
    elif type(block) is EdgeResidual:
        drawing.layer(f"{name}.conv_exp", reads, inner)
        drawing.norm(f"{name}.bn1", inner)
        drawing.layer(f"{name}.conv_pwl", inner, writes)
        drawing.norm(f"{name}.bn2", writes)
    if hasattr(getattr(block, "se", None), "conv_reduce"):
        squeezed = f"{name}/squeezed"
        drawing.layer(f"{name}.se.conv_reduce", inner, squeezed, aside=True)
        drawing.layer(f"{name}.se.conv_expand", squeezed, inner, aside=True)
    if getattr(block, "has_skip", False) and reads != writes:
        drawing.same(writes, reads)
    return writes
