from __future__ import annotations

import math

import pytest
import torch

from archsearch.evidence import TEMPERATURE, LayerSamples
from archsearch.kernels import softened_kl
from archsearch.proxies.kd_psi import kd_psi

# B batch, O outputs, I inputs


def test_two_layers_by_hand(evidence_of, layers) -> None:
    samples = tuple(
        LayerSamples(layer, 4, torch.tensor(snr)) for layer, snr in zip(layers, (2.0, 8.0, 0.0), strict=False)
    )
    assert kd_psi(evidence_of(samples=samples)) == pytest.approx(math.log(2) + math.log(8))


def test_it_is_that_of_gradients_taken_image_by_image(single) -> None:
    gradients = single.gradients(
        lambda logits_1K, i: softened_kl(logits_1K, single.teacher.logits_BK[i : i + 1], TEMPERATURE)
    )
    expected = 0.0
    for name in single.layers:
        sample_BOI = torch.stack([layers[name] for layers in gradients]).double()
        deviation_OI = sample_BOI.std(0, correction=0)
        moving_OI = deviation_OI > 1e-12
        expected += math.log((sample_BOI.abs().mean(0)[moving_OI] / deviation_OI[moving_OI]).sum())
    assert kd_psi(single.observe("samples")) == pytest.approx(expected, rel=1e-4)
