"""Plain vision transformers as stock timm builds them (Dosovitskiy et al. 2021, sized like DeiT and below).

The student is timm's `vit_tiny_patch16_224` with other sizes, so timm alone loads it.
"""

from __future__ import annotations

from archsearch.data.task import Task
from archsearch.request import Architecture
from archsearch.spaces.count import Count, conv, layer_norm, learned, linear, total, transformer
from archsearch.spaces.space import Parameter, Space, TimmModel, spaces

HEAD_DIM = 32
# Sixty-four tokens are what keeps attention cheap and the map fine enough at any resolution.
TOKENS_PER_SIDE = 8


def patch_size(task: Task) -> int:
    """The patch that cuts the shorter side into eight or just above."""
    return max(1, min(task.height, task.width) // TOKENS_PER_SIDE)


def parameters(task: Task) -> tuple[Parameter, ...]:
    return (
        Parameter("depth", 1, 12, 1, "transformer blocks"),
        Parameter("heads", 1, 12, 1, f"attention heads of {HEAD_DIM} channels; the width is {HEAD_DIM} × heads"),
        Parameter("mlp_ratio", 1, 4, 1, "hidden width of the MLP over the width"),
    )


def model(architecture: Architecture, task: Task) -> TimmModel:
    args = {
        "img_size": [task.height, task.width],
        "patch_size": patch_size(task),
        "embed_dim": HEAD_DIM * architecture["heads"],
        "depth": architecture["depth"],
        "num_heads": architecture["heads"],
        "mlp_ratio": architecture["mlp_ratio"],
        # Averaging the tokens learns faster than a class token on little data (Beyer et al. 2022).
        "class_token": False,
        "global_pool": "avg",
    }
    return TimmModel("vit_tiny_patch16_224", args)


def count(architecture: Architecture, task: Task) -> Count:
    width, hidden = HEAD_DIM * architecture["heads"], HEAD_DIM * architecture["heads"] * architecture["mlp_ratio"]
    patch = patch_size(task)
    tokens = (task.height // patch) * (task.width // patch)
    embed = conv(task.in_chans, width, patch, tokens, bias=True)
    positions = learned(tokens * width)
    blocks = [transformer(width, hidden, tokens)] * architecture["depth"]
    return total(embed, positions, *blocks, layer_norm(width, tokens), linear(width, task.classes, 1))


spaces.add(
    "vit",
    Space(
        name="vit",
        doc="Vision transformers, stock timm: depth, heads and MLP ratio; the patch follows the resolution.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="adamw",
        stock=True,
    ),
)
