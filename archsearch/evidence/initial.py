"""One initialisation for students of every family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.evidence.layers import weighted

if TYPE_CHECKING:
    from torch import nn


def draw_weights(model: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers anew, from N(0, 1/inputs): variance is passed on (LeCun 1998).

    Families differ in how they start training. timm's transformers start from weights so small that every block is
    nearly the identity and the network nearly linear, which says nothing about what it can do once trained and would
    compare families by their habits. Behind a batch norm the scale of a convolution makes no difference.

    For the same reason blocks are let speak that start silent: layer scales (Touvron et al. 2021), and last norms of
    residual branches that start at nought (Goyal et al. 2017), become 1.
    """
    from torch import nn

    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and (name.endswith("gamma") or (name.endswith("weight") and not parameter.any())):
            nn.init.ones_(parameter)
    for _, layer in weighted(model):
        nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
