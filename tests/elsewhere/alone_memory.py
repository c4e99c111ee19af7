"""A device that is not there, and full: what does not fit goes in smaller pieces or another way, and lets go of it."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from archsearch import device as devices
from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.distill.train import train
from archsearch.domains import of
from archsearch.errors import TrainingError
from archsearch.hardware import Limits, Ruler
from archsearch.request import DistillSpec, SearchSpec
from archsearch.search import bench, prepare
from archsearch.spaces import spaces
from archsearch.teachers import Teacher, check_teacher
from tests.elsewhere.device import NAME, Elsewhere, register

register()
SPACE = spaces.get("resnet_cifar")
SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 64, "precision": "fp32", "compile": "off"}


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    monkeypatch.setattr(devices, "ACCELERATOR", NAME)
    monkeypatch.setattr(devices, "_gpus", lambda: 1)
    return Elsewhere()


@pytest.fixture
def taught(teacher: Teacher, there: Elsewhere) -> Any:
    """The teacher, there."""
    with there:
        teacher.model.to(NAME)
        yield teacher
        there.limit_bytes = None
        teacher.model.to("cpu")


def held(there: Elsewhere) -> int:
    gc.collect()
    return there.held_bytes


def test_a_split_is_measured_in_smaller_pieces(there: Elsewhere, taught: Teacher, few_digits: Dataset) -> None:
    whole = accuracy(taught.logits, few_digits.selection)
    before = held(there)
    there.limit_bytes = before + (there.peak_bytes - before) // 3
    assert accuracy(taught.logits, few_digits.selection) == whole
    assert check_teacher(taught, few_digits).measured == whole
    assert there.full > 0
    assert held(there) == before


def test_a_candidate_that_does_not_fit_fails_alone_and_lets_go(
    there: Elsewhere, taught: Teacher, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_beyond_memory", lambda *_, **__: None)  # which would tell before
    spec, task = SearchSpec(precision="fp32"), few_digits.task
    made = prepare(spec, taught, few_digits, device=NAME)
    ruler = Ruler(task, Limits(), "fp32", 1)
    small, large = SPACE.smallest(task), SPACE.largest(task)
    fine = bench.evaluate(spec, SPACE, made, small, ruler)
    assert fine.state == "scored", fine.reason
    before = held(there)
    there.limit_bytes = before + 4 * 2**20
    failed = bench.evaluate(spec, SPACE, made, large, ruler)
    assert (failed.state, failed.reason) == ("failed", "out of memory")
    assert held(there) == before
    there.limit_bytes = None
    assert bench.evaluate(spec, SPACE, made, small, ruler).score == fine.score


def test_a_teacher_that_cannot_look_at_the_batch_there_looks_here(
    there: Elsewhere, taught: Teacher, few_digits: Dataset
) -> None:
    spec = SearchSpec(batch_size=128)
    here = prepare(spec, taught, few_digits, device="cpu").rungs[-1].teacher
    there.limit_bytes = held(there) + 300_000
    found = prepare(spec, taught, few_digits, device=NAME).rungs[-1].teacher
    assert there.full > 0
    assert found.logits_BK.device.type == NAME
    assert found.logits_BK.cpu().equal(here.logits_BK.cpu())
    assert devices.where(taught.model).type == NAME, "it is given back where it was"


def test_a_training_computes_fewer_at_a_time_and_learns_the_same_steps(
    there: Elsewhere, taught: Teacher, few_digits: Dataset
) -> None:
    def student() -> Any:
        torch.manual_seed(0)
        return SPACE.build(SPACE.smallest(few_digits.task), few_digits.task)

    spec = DistillSpec(method="kd", **SMALL)
    before, there.peak_bytes = held(there), held(there)
    whole = list(train(student(), few_digits, spec, teacher=taught))
    assert whole[-1].micro_batch == 64
    there.limit_bytes = before + (there.peak_bytes - before) * 2 // 3
    found = list(train(student(), few_digits, spec, teacher=taught))
    assert found[-1].micro_batch < 64
    assert found[-1].step == whole[-1].step
    there.limit_bytes = held(there) + 1000
    with pytest.raises(TrainingError, match="has no memory for the student"):
        list(train(student(), few_digits, spec, teacher=taught))


def test_images_that_do_not_fit_stay_on_the_host(
    there: Elsewhere, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archsearch.distill.group import Group

    spec = DistillSpec(epochs=1, batch_size=64, augment="crop")
    with there:
        loader: Any = of(few_digits.task).loader(few_digits, spec, NAME, Group())
        resident = [batch.x.cpu() for batch in loader.epoch(0, 0)]
        assert loader.x_NHWC is not None
        there.limit_bytes = held(there) + 8_000
        full: Any = of(few_digits.task).loader(few_digits, spec, NAME, Group())
        there.limit_bytes = None
        assert full.x_NHWC is None
        for one, other in zip(resident, full.epoch(0, 0), strict=True):
            assert one.equal(other.x.cpu())
