from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from archsearch.evidence import LayerSamples
from archsearch.proxies.gradsign import gradsign

# B batch, O outputs, I inputs


def test_it_adds_layers(evidence_of, layers) -> None:
    samples = [
        LayerSamples(layer, 4, torch.tensor(1.0), torch.tensor(n)) for layer, n in zip(layers, (6.0, 8.0), strict=False)
    ]
    assert gradsign(evidence_of(label_samples=tuple(samples))) == 14


def test_it_counts_the_signs_of_gradients_taken_image_by_image(single) -> None:
    gradients = single.gradients(lambda logits_1K, i: cross_entropy(logits_1K, single.y_B[i : i + 1]))
    expected = 0.0
    for name in single.layers:
        sample_BOI = torch.stack([layers[name] for layers in gradients])
        expected += sample_BOI.sign().sum(0).abs().sum().item()
    assert gradsign(single.observe("label_samples")) == expected


def test_images_of_one_class_seen_twice_agree_twice(single) -> None:
    twice = replace(single, x_BCHW=single.x_BCHW.repeat(2, 1, 1, 1), y_B=single.y_B.repeat(2), teacher=single.teacher)
    found = float(gradsign(single.observe("label_samples")))
    assert float(gradsign(twice.observe("label_samples"))) == pytest.approx(2 * found, rel=1e-3)
