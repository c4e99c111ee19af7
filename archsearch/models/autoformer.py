"""AutoFormer's subnetworks (Chen et al. 2021): a vision transformer whose layers differ in heads and MLP ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg
from timm.models.vision_transformer import Block, VisionTransformer

from archsearch.models.entry import offer, untrained


class AutoFormer(VisionTransformer):
    """timm's vision transformer with a number of heads and an MLP ratio for each layer.

    Heads share the width between them, so their number changes neither parameters nor MACs. The tokens' mean, without
    the class token, is classified.

    Args:
        embed_dim: Width.
        num_heads: Of each layer.
        mlp_ratio: Hidden width of each layer's MLP over the width.
    """

    def __init__(
        self,
        embed_dim: int = 192,
        num_heads: Sequence[int] = (3,) * 12,
        mlp_ratio: Sequence[float] = (4.0,) * 12,
        **kwargs: Any,
    ) -> None:
        if len(num_heads) != len(mlp_ratio):
            raise ValueError(f"{len(num_heads)} numbers of heads and {len(mlp_ratio)} MLP ratios: one of each a layer")
        layers = iter(zip(num_heads, mlp_ratio, strict=True))

        def layer(**settings: Any) -> Block:
            heads, ratio = next(layers)
            return Block(**{**settings, "num_heads": heads, "mlp_ratio": ratio})

        ours = {"class_token": True, "global_pool": "avg", "fc_norm": False}
        super().__init__(embed_dim=embed_dim, depth=len(num_heads), **{**ours, **kwargs, "block_fn": layer})


default_cfgs = untrained(
    "autoformer",
    first_conv="patch_embed.proj",
    classifier="head",
    input_size=(3, 224, 224),
    fixed_input_size=True,
    interpolation="bicubic",
    pool_size=None,
)


def autoformer(pretrained: bool = False, **kwargs: Any) -> AutoFormer:
    """timm's entry point: `timm.create_model("autoformer", embed_dim=192, num_heads=[…], mlp_ratio=[…])`."""
    model: AutoFormer = build_model_with_cfg(AutoFormer, "autoformer", pretrained, **kwargs)
    return model


offer(autoformer)

__all__ = ["AutoFormer", "autoformer"]
