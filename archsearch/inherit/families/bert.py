"""Encoders of the transformers library in our wrapper: BERT, RoBERTa, ELECTRA, DistilBERT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archsearch.inherit.layout import Axis, Drawing
from archsearch.zoos.encoders import Family

if TYPE_CHECKING:
    from torch import nn

_STREAM, _EMBEDDED = "tokens", "embedded"
# What a layer calls the projection behind its attention, the two of its feed-forward, and the norms after both.
_OF_BERT = (
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
    "attention.output.LayerNorm",
    "output.LayerNorm",
)
_OF_DISTILBERT = ("attention.out_lin", "ffn.lin1", "ffn.lin2", "sa_layer_norm", "output_layer_norm")
# Linear layers between the encoder and the answers.
_BEFORE = ("network.bert.pooler.dense", "network.classifier.dense", "network.pre_classifier")


def draw(model: nn.Module) -> Drawing | None:
    family = getattr(model, "family", None)
    if not isinstance(family, Family):
        return None
    seen: Any = model
    drawing = Drawing(model, tokens=seen.mask)
    _embeddings(drawing, f"network.{family.embeddings}")
    layers = tuple(info["module"] for info in seen.feature_info)
    drawing.stages.append(layers)
    parts = _OF_DISTILBERT if family.model_type == "distilbert" else _OF_BERT
    for name, attention in zip(layers, seen.attention_modules(), strict=True):
        heads, hidden = f"{name}/heads", f"{name}/hidden"
        unit = attention.query.out_features // attention.heads
        for projection in family.attention:
            drawing.layer(f"{name}.{projection}", _STREAM, Axis(heads, unit=unit))
        out, widen, narrow, norm1, norm2 = (f"{name}.{part}" for part in parts)
        drawing.layer(out, Axis(heads, unit=unit), _STREAM)
        drawing.norm(norm1, _STREAM)
        drawing.layer(widen, _STREAM, hidden)
        drawing.layer(narrow, hidden, _STREAM)
        drawing.norm(norm2, _STREAM)
    modules = dict(model.named_modules())
    before = next((name for name in _BEFORE if name in modules), None)
    if before is not None:
        drawing.layer(before, _STREAM, "answers")
    drawing.layer(f"network.{family.head}", _STREAM if before is None else "answers", None)
    return drawing


def _embeddings(drawing: Drawing, name: str) -> None:
    """The tables, which are as wide as the layers unless a projection follows them."""
    modules = dict(drawing.model.named_modules())
    project = next((n for n in modules if n.endswith("embeddings_project")), None)
    if project is None:
        drawing.same(_EMBEDDED, _STREAM)
    else:
        drawing.layer(project, _EMBEDDED, _STREAM)
        drawing.shortcut(project)
    for table, module in drawing.model.get_submodule(name).named_children():
        if table.endswith("_embeddings"):
            drawing.tensor(f"{name}.{table}.weight", None, _EMBEDDED)
        elif module.state_dict():
            drawing.norm(f"{name}.{table}", _EMBEDDED)
