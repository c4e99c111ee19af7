from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from archsearch.evidence import Layer
from archsearch.proxies import Undefined
from archsearch.proxies.encoder_size import encoder_size

H = 64
# A square matrix of side m has an effective rank of m·e^(−1/2) before training, one of m × 4m of m·e^(−1/8).
SQUARE, WIDE = math.exp(-1 / 2), math.exp(-1 / 8)


def encoder(depth: int, width: int, ffn: int) -> tuple[Layer, ...]:
    """A stock encoder's matrices."""
    found = []
    for i in range(depth):
        sides = {"query": (width, width), "key": (width, width), "value": (width, width), "dense": (width, width),
                 "up": (ffn, width), "down": (width, ffn)}  # fmt: skip
        found += [Layer(f"encoder.layer.{i}.{name}", *of, 1, 1, 8, False) for name, of in sides.items()]
    around = {"embeddings_project": False, "pooler.dense": False, "classifier": True}
    return (*found, *(Layer(name, width, width, 1, 1, 8, head) for name, head in around.items()))


def test_two_layers_by_hand(evidence_of) -> None:
    expected = math.sqrt(2) * 2 * H * (SQUARE + WIDE) / 2
    assert encoder_size(evidence_of(encoder(2, H, 4 * H))) == pytest.approx(expected)


def test_it_is_depth_to_one_and_a_half_times_width(evidence_of) -> None:
    sizes = [encoder_size(evidence_of(encoder(*size))) for size in ((2, H, 4 * H), (4, H, 4 * H), (2, 3 * H, 12 * H))]
    assert sizes[1] / sizes[0] == pytest.approx(2**1.5)
    assert sizes[2] / sizes[0] == pytest.approx(3)


def test_a_wider_feed_forward_counts_ever_less(evidence_of) -> None:
    sizes = [encoder_size(evidence_of(encoder(2, H, ffn))) for ffn in (H // 2, H, 2 * H, 4 * H)]
    steps = [after / before for before, after in pairwise(sizes)]
    assert steps == sorted(steps, reverse=True)
    assert min(steps) > 1


def test_what_is_in_no_layer_does_not_count(evidence_of) -> None:
    layers = encoder(2, H, 4 * H)
    without = tuple(layer for layer in layers if ".layer." in layer.name)
    assert encoder_size(evidence_of(without)) == encoder_size(evidence_of(layers))
    with pytest.raises(Undefined, match="no layers with numbers"):
        encoder_size(evidence_of(tuple(replace(layer, name="dense") for layer in layers)))
