from __future__ import annotations

import pytest
import torch
from torch import nn

from archsearch.evidence import draw_weights
from archsearch.evidence.layers import weighted
from archsearch.spaces import spaces


@pytest.mark.parametrize("name", spaces.names())
def test_each_layer_passes_on_its_inputs_variance(name: str, gray_task) -> None:
    space = spaces.get(name)
    torch.manual_seed(0)
    student = space.build({p.name: p.values[-1] for p in space.parameters(gray_task)}, gray_task)
    others = {n: p.clone() for n, p in student.named_parameters() if p.ndim < 2}
    draw_weights(student)
    for layer_name, layer in weighted(student):
        if layer.weight.numel() > 2000:
            inputs = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx(inputs**-0.5, rel=0.1), layer_name
            assert abs(layer.weight.mean().item()) < 0.1 * inputs**-0.5
    # Biases and norms are left as they are.
    assert all(dict(student.named_parameters())[n].equal(value) for n, value in others.items())


def test_the_seed_decides_and_families_start_alike() -> None:
    def drawn(std: float) -> torch.Tensor:
        layer = nn.Sequential(nn.Linear(64, 64))
        nn.init.normal_(layer[0].weight, std=std)
        torch.manual_seed(3)
        draw_weights(layer)
        return layer[0].weight.detach()

    assert drawn(0.02).equal(drawn(1.0))
