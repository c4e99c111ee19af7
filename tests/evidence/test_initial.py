from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from archsearch.domains.images.task import ImageTask
from archsearch.evidence import draw_weights
from archsearch.evidence.layers import weighted
from archsearch.spaces import of_domain, spaces


@pytest.mark.parametrize("name", [space.name for space in of_domain("image_classification")])
def test_each_layer_passes_on_its_inputs_variance(name: str, colour_task: ImageTask) -> None:
    space = spaces.get(name)
    torch.manual_seed(0)
    student = space.build({p.name: p.values[-1] for p in space.parameters(colour_task)}, colour_task)
    others = {n: p.clone() for n, p in student.named_parameters() if p.ndim < 2 and not n.endswith("gamma")}
    draw_weights(student)
    for layer_name, layer in weighted(student):
        if layer.weight.numel() > 2000:
            inputs = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx(inputs**-0.5, rel=0.1), layer_name
            assert abs(layer.weight.mean().item()) < 0.1 * inputs**-0.5
    # Biases and norms are left as they are, unless a norm silences its block.
    for n, value in others.items():
        silent = n.endswith("weight") and not value.any()
        assert dict(student.named_parameters())[n].equal(value.new_ones(value.shape) if silent else value), n


def test_blocks_that_start_silent_are_let_speak() -> None:
    layer_scaled = timm.create_model("convnext_atto", depths=[1, 1, 1, 1], dims=[8, 8, 8, 8])
    zeroed = timm.create_model("resnet18", zero_init_last=True)
    for model, names in (
        (layer_scaled, [n for n, _ in layer_scaled.named_parameters() if n.endswith("gamma")]),
        (zeroed, [n for n, _ in zeroed.named_parameters() if n.endswith("bn2.weight")]),
    ):
        assert names
        assert all(dict(model.named_parameters())[n].abs().max() < 1e-3 for n in names)
        draw_weights(model)
        assert all((dict(model.named_parameters())[n] == 1).all() for n in names)


def test_the_seed_decides_and_families_start_alike() -> None:
    def drawn(std: float) -> torch.Tensor:
        layer = nn.Sequential(nn.Linear(64, 64))
        nn.init.normal_(layer[0].weight, std=std)
        torch.manual_seed(3)
        draw_weights(layer)
        return layer[0].weight.detach()

    assert drawn(0.02).equal(drawn(1.0))
