"""timm's plain vision transformers, DeiT with one head included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsearch.inherit.layout import Axis, Drawing, names

if TYPE_CHECKING:
    from torch import nn

_STREAM = "tokens"


def draw(model: nn.Module) -> Drawing | None:
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(model, VisionTransformer):
        return None
    seen: Any = model
    drawing = Drawing(model)
    drawing.layer("patch_embed.proj", None, _STREAM)
    for name in ("cls_token", "reg_token", "pos_embed"):
        if getattr(seen, name, None) is not None:
            drawing.tensor(name, None, None, _STREAM)
    for name in ("norm_pre", "norm", "fc_norm"):
        drawing.each(name, _STREAM)
    blocks = names(seen.blocks, "blocks")
    # Each transformer block could go, yet the first of a stage never does: it is what the others build on.
    drawing.stages.append(blocks)
    for name in blocks:
        _block(drawing, name)
    drawing.layer("head", _STREAM, None)
    return drawing


def _block(drawing: Drawing, name: str) -> None:
    block: Any = drawing.model.get_submodule(name)
    heads, hidden = f"{name}/heads", f"{name}/hidden"
    unit = block.attn.head_dim
    drawing.norm(f"{name}.norm1", _STREAM)
    drawing.layer(f"{name}.attn.qkv", _STREAM, Axis(heads, unit=unit, repeat=3))
    drawing.layer(f"{name}.attn.proj", Axis(heads, unit=unit), _STREAM)
    drawing.norm(f"{name}.norm2", _STREAM)
    drawing.layer(f"{name}.mlp.fc1", _STREAM, hidden)
    drawing.layer(f"{name}.mlp.fc2", hidden, _STREAM)
    for scale in ("ls1", "ls2"):
        drawing.each(f"{name}.{scale}", _STREAM)
