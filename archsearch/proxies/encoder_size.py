"""The size of an encoder: how deep it is, and how wide its layers are."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from statistics import fmean

from archsearch.evidence import Evidence, Layer
from archsearch.proxies.capacity import initial_rank
from archsearch.proxies.proxy import Undefined, proxy

_NUMBERED = re.compile(r"^.*?\.\d+(?=\.)")


@proxy(
    magnitude=True,
    source="this project; depth × width judged on NAS-Bench-BERT (Serianni and Kalita 2023) and published distilled "
    "encoders, docs/decisions/0020-encoder-score.md",
)
def encoder_size(ev: Evidence) -> float:
    """√depth · Σ of the layers' effective widths: depth^1.5 × width in encoders with feed-forwards of one ratio.

    A layer is what shares the first number in its modules' names (`encoder.layer.3`). Its effective width is the mean
    of its attention's and its feed-forward's: the effective rank of their matrices before any training, which a
    feed-forward four times as wide moves little and a narrow one lowers. What is in no layer (embeddings, a pooler,
    the classifier) is left out. Depth counts for half as much again as width: the one table of encoders there is, with
    2 and 4 layers and 500 networks trained alike, says twice as much; published students of 6 and 12 layers say about
    as much. It is no measure of networks whose layers are not alike.
    """
    layers: defaultdict[str, list[Layer]] = defaultdict(list)
    for layer in ev.layers:
        numbered = _NUMBERED.match(layer.name)
        if numbered and not layer.is_head:
            layers[numbered[0]].append(layer)
    if not layers:
        raise Undefined("the network has no layers with numbers in their names")
    return math.sqrt(len(layers)) * sum(map(_width, layers.values()))


def _width(matrices: list[Layer]) -> float:
    """Attention's matrices are square and come first; of a feed-forward as wide as they are there is no other width."""
    side = matrices[0].d_in
    attention = [_rank(layer) for layer in matrices if layer.d_in == layer.d_out == side]
    rest = [_rank(layer) for layer in matrices if not layer.d_in == layer.d_out == side]
    return fmean(fmean(part) for part in (attention, rest) if part)


def _rank(layer: Layer) -> float:
    return layer.groups * initial_rank(layer.d_out / layer.groups, layer.d_in)
