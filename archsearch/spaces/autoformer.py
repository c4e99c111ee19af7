"""AutoFormer's tiny vision transformers (Chen et al. 2021), to compare scores with tables of distilled accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archsearch.domains.images.task import ImageTask
from archsearch.request import Architecture
from archsearch.spaces.count import Count, conv, layer_norm, learned, linear, total, transformer
from archsearch.spaces.space import Parameter, Recipe, Space, spaces

DEPTHS = range(12, 15)
# 16 pixels of 224 in the published tables; the same share of other resolutions.
PATCHES_PER_SIDE = 14


def from_table(arch: Mapping[str, Any]) -> Architecture:
    """The architecture a row of the published table stands for: hidden_dim, depth, and lists num_heads, mlp_ratio."""
    depth = arch["depth"]
    heads = [*arch["num_heads"], *[3] * (DEPTHS[-1] - depth)]
    ratios = [*arch["mlp_ratio"], *[3.5] * (DEPTHS[-1] - depth)]
    each = {f"heads{i}": heads[i - 1] for i in range(1, DEPTHS[-1] + 1)}
    each |= {f"mlp{i}": round(2 * ratios[i - 1]) for i in range(1, DEPTHS[-1] + 1)}
    return {"width": arch["hidden_dim"], "depth": depth, **each}


def parameters(task: ImageTask) -> tuple[Parameter, ...]:
    layers = range(1, DEPTHS[-1] + 1)
    return (
        Parameter("width", 192, 240, 24, "channels"),
        Parameter("depth", DEPTHS[0], DEPTHS[-1], 1, "layers; what is said of layers beyond is ignored"),
        *(Parameter(f"heads{i}", 3, 4, 1, f"attention heads of layer {i}, which share the width") for i in layers),
        *(Parameter(f"mlp{i}", 7, 8, 1, f"hidden width of layer {i}'s MLP in halves of the width") for i in layers),
    )


def patch_size(task: ImageTask) -> int:
    return max(1, min(task.height, task.width) // PATCHES_PER_SIDE)


def model(architecture: Architecture, task: ImageTask) -> Recipe:
    layers = range(1, architecture["depth"] + 1)
    args = {
        "img_size": [task.height, task.width],
        "patch_size": patch_size(task),
        "embed_dim": architecture["width"],
        "num_heads": [architecture[f"heads{i}"] for i in layers],
        "mlp_ratio": [architecture[f"mlp{i}"] / 2 for i in layers],
    }
    return Recipe("autoformer", args, stock=False)


def count(architecture: Architecture, task: ImageTask) -> Count:
    width, patch = architecture["width"], patch_size(task)
    patches = (task.height // patch) * (task.width // patch)
    tokens = patches + 1
    embed = conv(task.in_chans, width, patch, patches, bias=True)
    tokens_own = learned((tokens + 1) * width)  # a position for each token, and the class token itself
    layers = range(1, architecture["depth"] + 1)
    blocks = [transformer(width, width * architecture[f"mlp{i}"] // 2, tokens) for i in layers]
    return total(embed, tokens_own, *blocks, layer_norm(width, tokens), linear(width, task.classes, 1))


spaces.add(
    "autoformer",
    Space(
        name="autoformer",
        doc="AutoFormer-tiny for comparisons: width, depth, and each layer's heads and MLP ratio.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="adamw",
        benchmark=True,
    ),
)
