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
    """√depth · Σ over layers of the mean effective rank of their matrices: depth^1.5 × width, in stock encoders.

    A layer is what shares the first number in its modules' names (`encoder.layer.3`). Its width is that of its
    matrices before any training, which a feed-forward four times as wide moves little and a narrow one lowers; what is
    in no layer (embeddings, a pooler, the classifier) is left out. Depth counts for half as much again as width: the
    one table of encoders there is says twice as much, with 2 and 4 layers and 500 networks trained alike, published
    students of 6 and 12 layers say about as much. It is no measure of networks whose layers are not alike.
    """
    layers: defaultdict[str, list[float]] = defaultdict(list)
    for layer in ev.layers:
        numbered = _NUMBERED.match(layer.name)
        if numbered and not layer.is_head:
            layers[numbered[0]].append(_rank(layer))
    if not layers:
        raise Undefined("the network has no layers with numbers in their names")
    return math.sqrt(len(layers)) * sum(map(fmean, layers.values()))


def _rank(layer: Layer) -> float:
    return layer.groups * initial_rank(layer.d_out / layer.groups, layer.d_in)
