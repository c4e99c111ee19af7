"""Plain vision transformers as stock timm builds them (Dosovitskiy et al. 2021, sized like DeiT and below).

The student is timm's `vit_tiny_patch16_224` with other sizes, so timm alone loads it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from archsearch.domains.images.task import ImageTask
from archsearch.request import Architecture
from archsearch.spaces.count import Count, conv, layer_norm, learned, linear, total, transformer
from archsearch.spaces.kin import Kin
from archsearch.spaces.space import MANY_IMAGES, Parameter, Recipe, Space, spaces

if TYPE_CHECKING:
    from torch import nn

HEAD_DIM = 32
# The finest patch cuts the shorter side into 14 or just above, the coarsest into 7: 196 tokens or 49 of 224 pixels.
TOKENS_PER_SIDE = (14, 7)


@dataclass(frozen=True)
class Net:
    """A vision transformer in numbers.

    Attributes:
        prefix: Tokens before the patches' own (class and register tokens).
        embedded: How many of the prefix tokens have a position.
        scaled: Whether each channel of a layer's two outputs is scaled by a parameter.
        averaged: Whether the tokens are averaged, and normalised after that, rather than read off the class token.
    """

    patch: int
    width: int
    depth: int
    heads: int
    hidden: int
    prefix: int = 0
    embedded: int = 0
    scaled: bool = False
    averaged: bool = True


def patch_sizes(task: ImageTask) -> range:
    """The patches to choose from: one that cuts the shorter side finely and its double, or one alone of few pixels."""
    finest, coarsest = (max(1, min(task.height, task.width) // tokens) for tokens in TOKENS_PER_SIDE)
    return range(finest, coarsest + 1, finest)


def parameters(task: ImageTask) -> tuple[Parameter, ...]:
    patches = patch_sizes(task)
    return (
        # Finer patches cost more MACs and, of large images, fewer parameters.
        Parameter("patch", patches[0], patches[-1], patches.step, "pixels a side of one token", ordered=False),
        Parameter("depth", 1, 12, 1, "transformer blocks"),
        Parameter("heads", 1, 12, 1, f"attention heads of {HEAD_DIM} channels; the width is {HEAD_DIM} × heads"),
        Parameter("mlp_ratio", 1, 4, 1, "hidden width of the MLP over the width"),
    )


def net(architecture: Architecture, task: ImageTask) -> Net:
    width = HEAD_DIM * architecture["heads"]
    return Net(
        patch=architecture["patch"],
        width=width,
        depth=architecture["depth"],
        heads=architecture["heads"],
        hidden=width * architecture["mlp_ratio"],
    )


def model(architecture: Architecture, task: ImageTask) -> Recipe:
    args = {
        **arguments(net(architecture, task), task),
        # Averaging the tokens learns faster than a class token on little data (Beyer et al. 2022).
        "class_token": False,
        "global_pool": "avg",
    }
    return Recipe("vit_tiny_patch16_224", args)


def arguments(here: Net, task: ImageTask) -> dict[str, Any]:
    """The sizes as timm's vision transformer takes them."""
    return {
        "img_size": [task.height, task.width],
        "patch_size": here.patch,
        "embed_dim": here.width,
        "depth": here.depth,
        "num_heads": here.heads,
        "mlp_ratio": here.hidden / here.width,
    }


def count(architecture: Architecture, task: ImageTask) -> Count:
    return count_net(net(architecture, task), task)


def count_net(here: Net, task: ImageTask) -> Count:
    patches = (task.height // here.patch) * (task.width // here.patch)
    tokens = patches + here.prefix
    embed = conv(task.in_chans, here.width, here.patch, patches, bias=True, stride=here.patch)
    own = learned((patches + here.embedded + here.prefix) * here.width)  # positions, and the prefix tokens themselves
    scales = learned(2 * here.width if here.scaled else 0)
    block = total(transformer(here.width, here.hidden, tokens), scales)
    norm = layer_norm(here.width, 1 if here.averaged else tokens)
    return total(embed, own, block * here.depth, norm, linear(here.width, task.classes, 1))


def kin(teacher: nn.Module) -> Kin | None:
    """The family of a teacher that is a plain vision transformer of timm's, DeiT with one head included."""
    from timm.layers.layer_scale import LayerScale
    from timm.models.vision_transformer import VisionTransformer

    if type(teacher) is not VisionTransformer:
        return None
    seen: Any = teacher
    first = seen.blocks[0]
    heads, width = first.attn.num_heads, seen.embed_dim
    scaled = isinstance(first.ls1, LayerScale)
    whole = Net(
        patch=seen.patch_embed.patch_size[0],
        width=width,
        depth=len(seen.blocks),
        heads=heads,
        hidden=first.mlp.fc1.out_features,
        prefix=seen.num_prefix_tokens,
        embedded=0 if seen.no_embed_class else seen.num_prefix_tokens,
        scaled=scaled,
        averaged=seen.global_pool != "token",
    )
    ratio, uneven = divmod(whole.hidden, width)
    name = seen.pretrained_cfg["architecture"]
    kept = {
        "class_token": seen.has_class_token,
        "reg_tokens": seen.num_reg_tokens,
        "no_embed_class": seen.no_embed_class,
        "global_pool": seen.global_pool,
        # Stock layer scales begin near nothing: layers pass nothing on, and proxies would see nothing in them.
        **({"init_values": 1.0} if scaled else {}),
    }

    def searched(task: ImageTask) -> tuple[Parameter, ...]:
        ratios = Parameter("mlp_ratio", 1, ratio, 1, "hidden width of the MLP over the width")
        return (
            Parameter("depth", 1, whole.depth, 1, "transformer blocks"),
            Parameter("heads", 1, heads, 1, f"attention heads of {width // heads} channels, which make the width"),
            *(() if uneven or ratio < 2 else (ratios,)),
        )

    def part(architecture: Architecture) -> Net:
        narrower = width // heads * architecture["heads"]
        hidden = int(narrower * (whole.hidden / width))
        if "mlp_ratio" in architecture:
            hidden = narrower * architecture["mlp_ratio"]
        depth = architecture["depth"]
        return replace(whole, depth=depth, heads=architecture["heads"], width=narrower, hidden=hidden)

    def made(architecture: Architecture, task: ImageTask) -> Recipe:
        here = part(architecture)
        exact = architecture.get("mlp_ratio", whole.hidden / width)
        return Recipe(name, {**arguments(here, task), **kept, "mlp_ratio": exact})

    def counted(architecture: Architecture, task: ImageTask) -> Count:
        return count_net(part(architecture), task)

    return Kin(searched, made, counted, "adamw", MANY_IMAGES)


spaces.add(
    "vit",
    Space(
        name="vit",
        doc="Vision transformers, stock timm: patch, depth, heads and MLP ratio.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="adamw",
        learns_from=MANY_IMAGES,
    ),
)
