"""Pooling-based vision transformers as stock timm builds them (Heo et al. 2021): three stages, pooling between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archsearch.domains.images.task import ImageTask
from archsearch.request import Architecture
from archsearch.spaces.count import Count, conv, layer_norm, learned, linear, total, transformer
from archsearch.spaces.space import Parameter, Recipe, Space, spaces

# 16 pixels of 224 in the published tables, at half that stride; the same share of other resolutions.
PATCHES_PER_SIDE = 14
_MOST_HEADS = 3  # as a power of two


def from_table(arch: Mapping[str, Any]) -> Architecture:
    """The architecture a row of the published table stands for: base_dim, mlp_ratio, and lists depth, num_heads."""
    powers = [heads.bit_length() - 1 for heads in arch["num_heads"]]
    architecture = {f"depth{i}": depth for i, depth in enumerate(arch["depth"], 1)}
    rises = {"heads1": powers[0], "rise2": powers[1] - powers[0], "rise3": powers[2] - powers[1]}
    return {"base": arch["base_dim"], "mlp_ratio": arch["mlp_ratio"], **architecture, **rises}


def parameters(task: ImageTask) -> tuple[Parameter, ...]:
    return (
        Parameter("base", 16, 40, 8, "channels of one head"),
        Parameter("mlp_ratio", 2, 8, 2, "hidden width of the MLPs over the width"),
        Parameter("depth1", 1, 3, 1, "layers of stage 1"),
        Parameter("depth2", 4, 8, 2, "layers of stage 2"),
        Parameter("depth3", 2, 6, 2, "layers of stage 3"),
        Parameter("heads1", 1, _MOST_HEADS, 1, "stage 1 has 2 to this power heads; its width is base × heads"),
        # Pooling multiplies channels by a whole number, so heads never become fewer.
        Parameter("rise2", 0, 2, 1, "how often heads double before stage 2, up to 8"),
        Parameter("rise3", 0, 2, 1, "how often heads double before stage 3, up to 8"),
    )


def heads(architecture: Architecture) -> list[int]:
    first = architecture["heads1"]
    second = min(_MOST_HEADS, first + architecture["rise2"])
    third = min(_MOST_HEADS, second + architecture["rise3"])
    return [2**first, 2**second, 2**third]


def patch_size(task: ImageTask) -> int:
    return max(2, min(task.height, task.width) // PATCHES_PER_SIDE)


def model(architecture: Architecture, task: ImageTask) -> Recipe:
    args = {
        "img_size": [task.height, task.width],
        "patch_size": patch_size(task),
        "stride": patch_size(task) // 2,
        "base_dims": [architecture["base"]] * 3,
        "depth": [architecture[f"depth{i}"] for i in (1, 2, 3)],
        "heads": heads(architecture),
        "mlp_ratio": architecture["mlp_ratio"],
    }
    return Recipe("pit_ti_224", args)


def count(architecture: Architecture, task: ImageTask) -> Count:
    patch = patch_size(task)
    height, across = ((side - patch) // (patch // 2) + 1 for side in (task.height, task.width))
    widths = [architecture["base"] * count for count in heads(architecture)]
    embed = conv(task.in_chans, widths[0], patch, height * across, bias=True)
    parts = [embed, learned((height * across + 1) * widths[0])]
    for i, width in enumerate(widths):
        if i:
            # A depthwise convolution of stride 2 pools the patches, a linear layer widens the class token.
            height, across = -(-height // 2), -(-across // 2)
            pool = conv(widths[i - 1], width, 3, height * across, groups=widths[i - 1], bias=True, stride=2)
            parts += [pool, linear(widths[i - 1], width, 1)]
        block = transformer(width, width * architecture["mlp_ratio"], height * across + 1)
        parts += [block] * architecture[f"depth{i + 1}"]
    return total(*parts, layer_norm(widths[-1], 1), linear(widths[-1], task.classes, 1))


spaces.add(
    "pit",
    Space(
        name="pit",
        doc="Pooling-based vision transformers, stock timm: head width, MLP ratio, depth and heads of three stages.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="adamw",
        benchmark=True,
    ),
)
