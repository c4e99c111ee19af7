from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from archsearch.evidence import LayerSamples
from archsearch.proxies.psi import psi

# B batch, O outputs, I inputs


def test_two_layers_by_hand(evidence_of, layers) -> None:
    samples = tuple(
        LayerSamples(layer, 4, torch.tensor(snr)) for layer, snr in zip(layers, (2.0, 8.0, 0.0), strict=False)
    )
    assert psi(evidence_of(label_samples=samples)) == pytest.approx(math.log(2) + math.log(8))


def test_it_is_that_of_gradients_taken_image_by_image(single) -> None:
    gradients = single.gradients(lambda logits_1K, i: cross_entropy(logits_1K, single.y_B[i : i + 1]))
    expected = 0.0
    for name in single.layers:
        sample_BOI = torch.stack([layers[name] for layers in gradients]).double()
        deviation_OI = sample_BOI.std(0, correction=0)
        moving_OI = deviation_OI > 1e-12
        expected += math.log((sample_BOI.abs().mean(0)[moving_OI] / deviation_OI[moving_OI]).sum())
    assert psi(single.observe("label_samples")) == pytest.approx(expected, rel=1e-4)


def test_a_weight_without_noise_says_nothing(single) -> None:
    """Where all images are one, every gradient is the same: a ratio to no noise is none, and must not be endless."""
    one = replace(single, x_BCHW=single.x_BCHW[:1].repeat(8, 1, 1, 1), y_B=single.y_B[:1].repeat(8))
    for layer in one.observe("label_samples").label_samples:
        # What rounding leaves of the noise is no less than about the root of float32's precision.
        assert float(layer.snr) <= 1e4 * layer.weights
