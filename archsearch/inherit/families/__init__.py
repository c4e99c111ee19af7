"""Which channels of a family's networks hang together, a file a family; `layout` finds the one for a network."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from archsearch.inherit.layout import Layout, Unsliceable

if TYPE_CHECKING:
    from torch import nn

# Each has `draw(network)`, a `Drawing` of it, or None where the network is of another family.
FILES = ("resnet", "regnet", "efficientnet", "convnext", "vit", "bert")


def layout(model: nn.Module) -> Layout:
    """A network's streams and blocks; raises Unsliceable where it is of no family known here, or has parts that nobody
    has said how to cut."""
    for name in FILES:
        drawing = importlib.import_module(f"archsearch.inherit.families.{name}").draw(model)
        if drawing is not None:
            found: Layout = drawing.done()
            return found
    raise Unsliceable(f"a {type(model).__name__} is of no family that students can be cut out of")
