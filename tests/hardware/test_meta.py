from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from archsearch.data.shape import Shape
from archsearch.domains.images.task import ImageTask
from archsearch.hardware import Ruler, measure, measure_model, measure_teacher, peak_activation_bytes, size_bytes
from archsearch.spaces import Cost, Count, spaces
from archsearch.spaces.count import batch_norm, conv, linear
from archsearch.teachers import Teacher

SPACE = spaces.get("resnet_cifar")


def test_a_net_by_hand() -> None:
    # 3→4 channels, 3×3, on 5×5 positions; then 4·25 → 2. Biases and norms are parameters without MACs.
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(100, 2))
    assert measure_model(model, Shape((3, 5, 5))) == Cost(3 * 4 * 9 + 4 + 8 + 202, 3 * 4 * 9 * 25 + 200)


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        measure_model(model, Shape((1, 2, 2)))
        assert model.training is training
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_measuring_draws_no_random_numbers_and_makes_no_weights(gray_task: ImageTask) -> None:
    state = torch.get_rng_state()
    measure(SPACE, SPACE.largest(gray_task), gray_task)
    assert torch.get_rng_state().equal(state)


def test_a_teacher_costs_what_it_does_at_its_own_resolution(teacher: Teacher, gray_task: ImageTask) -> None:
    own = measure_teacher(teacher, gray_task)
    larger = measure_teacher(dataclasses.replace(teacher, input_hw=(16, 16)), gray_task)
    assert own.params == larger.params == 31_434
    head = 32 * 10
    assert larger.macs - head == 4 * (own.macs - head)


class Chain(nn.Module):
    """Three layers whose activations are easily counted; the middle one has a shortcut around it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = self.first(x_BCHW)
        x_BCHW = x_BCHW + self.middle(x_BCHW)
        logits_BK: torch.Tensor = self.fc(x_BCHW.mean((2, 3)))
        return logits_BK


def test_the_peak_of_activations_by_hand(gray_task: ImageTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(SPACE), "build", lambda self, architecture, task: Chain())
    # While the sum is made: the images, the first map, the middle's map and the sum itself, 64 positions each.
    images, maps = 2 * 64, 3 * 2 * 4 * 64
    assert peak_activation_bytes(SPACE, {}, gray_task, batch=2) == 4 * (images + maps)


def test_the_peak_grows_with_the_batch_and_counts_no_weights(gray_task: ImageTask) -> None:
    small, wide = SPACE.smallest(gray_task), SPACE.largest(gray_task)
    one, four = (peak_activation_bytes(SPACE, small, gray_task, batch) for batch in (1, 4))
    assert 3.9 < four / one <= 4.0
    weights = 4 * SPACE.cost(wide, gray_task).params
    assert peak_activation_bytes(SPACE, wide, gray_task, 1) < weights / 10


@pytest.mark.parametrize("name", ["resnet_cifar", "vit"])
def test_stored_bytes_are_those_of_the_state_dict(name: str, gray_task: ImageTask) -> None:
    space = spaces.get(name)
    for architecture in (space.smallest(gray_task), space.largest(gray_task)):
        model, count = space.build(architecture, gray_task), space.count(architecture, gray_task)
        assert size_bytes(count, "fp32") == stored(model)
        assert size_bytes(count, "fp16") == stored(model.half())


def stored(model: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


def test_int8_stores_matrices_in_a_byte_and_the_rest_in_four() -> None:
    # A 3×3 convolution of 2→4 channels with a batch norm, and a linear layer of 4→3 with bias.
    count = conv(2, 4, 3, 25) + batch_norm(4, 25) + linear(4, 3, 1)
    scales, norm, bias, counter = 4 + 3, 4 * 4, 3, 1
    assert size_bytes(count, "int8") == (2 * 4 * 9 + 4 * 3) + 4 * (scales + norm + bias) + 8 * counter


def test_a_ruler_looks_only_at_what_is_asked(gray_task: ImageTask) -> None:
    small = SPACE.smallest(gray_task)
    bare = Ruler(gray_task).measure(SPACE, small)
    assert bare == dataclasses.replace(SPACE.cost(small, gray_task), size_bytes=bare.size_bytes)
    traded = Ruler(gray_task, batch=3, trade="peak_activation_bytes")
    assert traded.measure(SPACE, small).peak_activation_bytes == peak_activation_bytes(SPACE, small, gray_task, 3)
    estimate = traded.estimate(SPACE, small).peak_activation_bytes
    assert estimate is not None
    assert 0 < estimate <= peak_activation_bytes(SPACE, small, gray_task, 3)


def test_a_ruler_predicts_latency_by_the_space_s_own_predictor(gray_task: ImageTask) -> None:
    class Linear:
        def predict(self, count: Count) -> float:
            return count.macs / 1e6

    small = SPACE.smallest(gray_task)
    ruler = Ruler(gray_task, predictors={"resnet_cifar": Linear()})
    assert ruler.estimate(SPACE, small).latency_ms == SPACE.cost(small, gray_task).macs / 1e6
    vit = spaces.get("vit")
    assert ruler.estimate(vit, vit.smallest(gray_task)).latency_ms is None
