from __future__ import annotations

import math

import pytest
import torch

from archsearch.distill.schedule import make_optimizer, one_cycle, scaled_lr, share
from archsearch.request import DistillSpec


def test_one_cycle_rises_in_a_line_and_falls_to_nothing() -> None:
    points = [one_cycle(i / 1000) for i in range(1001)]
    top = points.index(max(points))
    assert max(points) == pytest.approx(1, abs=0.01)
    assert top == pytest.approx(150, abs=1)
    assert points[:top] == sorted(points[:top])
    assert points[top:] == sorted(points[top:], reverse=True)
    assert 0 < points[0] < 0.1
    assert points[-1] == pytest.approx(0, abs=1e-9)


def test_the_learning_rate_follows_the_batch() -> None:
    assert scaled_lr("sgd", 128) == pytest.approx(0.1)
    assert scaled_lr("sgd", 512) == pytest.approx(0.4)
    assert scaled_lr("adamw", 512) == pytest.approx(2 * scaled_lr("adamw", 128))
    assert math.isclose(scaled_lr("adamw", 128), 1e-3)


def test_the_published_cifar_recipe_divides_by_ten_after_epochs_150_180_and_210() -> None:
    spec = DistillSpec(recipe="cifar")
    rates = [spec.lr * share(spec, epoch / 240) for epoch in (0, 149, 150, 179, 180, 209, 210, 239)]
    assert rates == pytest.approx([0.05, 0.05, 0.005, 0.005, 5e-4, 5e-4, 5e-5, 5e-5])
    assert (spec.epochs, spec.batch_size, spec.momentum, spec.nesterov) == (240, 64, 0.9, False)
    assert (spec.weight_decay, spec.decay_all, spec.augment) == (5e-4, True, "crop_flip")


def test_a_cosine_rises_through_its_warm_up_and_falls_to_nothing() -> None:
    spec = DistillSpec(schedule="cosine", warmup=0.1)
    assert share(spec, 0.0) < 0.1
    assert share(spec, 0.1) == pytest.approx(1)
    assert share(spec, 0.55) == pytest.approx(0.5)
    assert share(spec, 1.0) == pytest.approx(0, abs=1e-9)


def test_norms_and_biases_are_spared_from_weight_decay_unless_the_recipe_says_all() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    decayed = {
        everything: {
            id(weight)
            for group in make_optimizer(layers.parameters(), DistillSpec(decay_all=everything), "sgd").param_groups
            for weight in group["params"]
            if group["weight_decay"]
        }
        for everything in (False, True)
    }
    assert decayed[False] == {id(layers[0].weight)}
    assert decayed[True] == {id(weight) for weight in layers.parameters()}


def test_without_momentum_there_is_no_nesterov_either() -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = make_optimizer(layer.parameters(), DistillSpec(momentum=0), "sgd")
    assert not optimizer.param_groups[0]["nesterov"]
