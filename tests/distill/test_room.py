"""What a training takes is estimated before it begins, and a step is computed in parts where it would not fit."""

from __future__ import annotations

import weakref
from contextlib import ExitStack

import pytest
import torch

from archsearch.data import Dataset
from archsearch.distill import room, teacher_source
from archsearch.distill.learner import prepare
from archsearch.distill.room import affordable, require_room_for_batch
from archsearch.distill.train import train
from archsearch.domains.images.task import ImageTask
from archsearch.errors import Cancelled, TooMuchMemory
from archsearch.request import DistillSpec
from archsearch.spaces import spaces
from archsearch.teachers import Teacher, fingerprint

SPEC = DistillSpec(method="kd", epochs=1, batch_size=64)


def student(dataset: Dataset, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    space = spaces.get("resnet_cifar")
    return space.build(space.smallest(dataset.task), dataset.task)


def test_a_step_of_more_images_than_there_is_room_for_is_refused_with_the_field(gray_task: ImageTask) -> None:
    require_room_for_batch(8192, gray_task)
    photos = ImageTask(10, 3, 4096, 4096, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(TooMuchMemory, match="a step of 8192 images of 4096×4096 pixels would take") as caught:
        require_room_for_batch(8192, photos)
    assert caught.value.field == "distill.batch_size"


def test_a_processor_computes_as_many_images_at_a_time_as_its_memory_holds(
    few_digits: Dataset, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        model = student(few_digits)
        side = prepare(model, few_digits, SPEC, teacher, device="cpu", cache=None, stack=stack)
        found = []
        for machine in (2**40, 2**22, 2**20, 2**10):
            monkeypatch.setattr(room, "machine_bytes", lambda machine=machine: machine)
            found.append(affordable(SPEC, 64, model, side, few_digits.task, "cpu"))
        assert affordable(SPEC, 64, model, side, few_digits.task, "cuda") == 64
    assert (found[0], found[-1]) == (64, 1)
    assert found == sorted(found, reverse=True)
    assert found[1] < 64


def test_a_teacher_that_is_asked_in_parts_teaches_the_same(
    few_digits: Dataset, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept in half precision, its answers do not tell by how many they were asked."""
    whole, parts = student(few_digits), student(few_digits)
    list(train(whole, few_digits, SPEC, teacher=teacher))
    monkeypatch.setattr(teacher_source, "fitting", lambda one, steady: 16)
    list(train(parts, few_digits, SPEC, teacher=teacher))
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("parts", [16, 64])
def test_whoever_is_asked_may_end_a_training_in_the_middle_of_a_step_or_of_its_measurement(
    few_digits: Dataset, teacher: Teacher, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    def stop(*at: object) -> None:
        raise Cancelled("enough")

    monkeypatch.setattr(teacher_source, "fitting", lambda one, steady: parts)
    before = fingerprint(teacher.model)
    training = train(student(few_digits), few_digits, SPEC, teacher=teacher, alive=stop)
    with pytest.raises(Cancelled):
        next(training)  # its first report is the epoch's
    assert fingerprint(teacher.model) == before


def test_what_filled_the_memory_is_let_go_before_less_is_tried(few_digits: Dataset) -> None:
    class Graph:
        """What a forward pass holds."""

    alive: weakref.WeakSet[Graph] = weakref.WeakSet()
    seen: list[tuple[int, int]] = []

    class Hungry(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            if self.training and x_BCHW.device.type == "cpu":
                seen.append((len(x_BCHW), len(alive)))
                if len(x_BCHW) > 16:
                    held = Graph()
                    alive.add(held)
                    raise torch.OutOfMemoryError
            logits_BK: torch.Tensor = self.inner(x_BCHW)
            return logits_BK

    recipe = DistillSpec(method="none", epochs=1, batch_size=64)
    list(train(Hungry(student(few_digits)), few_digits, recipe, teacher=None))
    assert seen[:3] == [(64, 0), (32, 0), (16, 0)]
