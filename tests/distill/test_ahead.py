from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch.data import Dataset
from archsearch.distill import ahead
from archsearch.distill.ahead import Ahead, one_ahead
from archsearch.distill.group import Group
from archsearch.distill.learner import prepare
from archsearch.distill.train import train
from archsearch.domains.image_classification import DOMAIN
from archsearch.request import DistillSpec
from archsearch.spaces import spaces
from archsearch.teachers import Teacher, fingerprint

SPEC = DistillSpec(method="kd", epochs=2, batch_size=64, view_cache="off", device="cpu", augment="crop_flip")


def student(dataset: Dataset, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    space = spaces.get("resnet_cifar")
    return space.build(space.smallest(dataset.task), dataset.task)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "cores", lambda: 2 * torch.get_num_threads())


def asked_from(teacher: Teacher, dataset: Dataset, spec: DistillSpec, model: torch.nn.Module) -> set[str]:
    """The names of the threads a training asks its teacher from."""
    found: set[str] = set()

    def look(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if not inputs[0].is_meta:  # else its memory is counted
            found.add(threading.current_thread().name)

    hook = teacher.model.register_forward_pre_hook(look)
    list(train(model, dataset, spec, teacher=teacher))
    hook.remove()
    return {name.partition("_")[0] for name in found}


def test_looking_ahead_changes_no_bit(few_digits: Dataset, teacher: Teacher, idle: None, monkeypatch) -> None:
    beside, alone = student(few_digits), student(few_digits)
    assert asked_from(teacher, few_digits, SPEC, beside) == {"teacher"}
    monkeypatch.setattr(ahead, "cores", lambda: 1)
    assert asked_from(teacher, few_digits, SPEC, alone) == {"MainThread"}
    assert fingerprint(beside) == fingerprint(alone)


@pytest.mark.parametrize("fields", [{"micro_batch": 32}, {"method": "at"}])
def test_parts_of_a_batch_and_what_shows_more_than_logits_are_not_asked_ahead(
    few_digits: Dataset, teacher: Teacher, idle: None, monkeypatch, fields: dict[str, Any]
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("asked ahead")

    monkeypatch.setattr(Ahead, "ask", never)
    list(train(student(few_digits), few_digits, SPEC.model_copy(update={**fields, "epochs": 1}), teacher=teacher))


def test_a_training_that_is_interrupted_goes_on_to_the_same_bits_and_leaves_no_thread(
    few_digits: Dataset, teacher: Teacher, idle: None, tmp_path: Path
) -> None:
    whole, second = student(few_digits), student(few_digits)
    list(train(whole, few_digits, SPEC, teacher=teacher))
    kept: Any = {"teacher": teacher, "checkpoint_path": tmp_path / "c.safetensors", "checkpoint_every_s": 0}
    course = train(student(few_digits), few_digits, SPEC, **kept)
    next(course)
    course.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("teacher")]
    list(train(second, few_digits, SPEC, **kept))
    assert fingerprint(second) == fingerprint(whole)


def test_what_fails_in_the_thread_is_raised_where_it_is_wanted(
    few_digits: Dataset, teacher: Teacher, idle: None
) -> None:
    def fail(*_: Any) -> None:
        raise TimeoutError("the teacher's own")

    hook = teacher.model.register_forward_pre_hook(fail)
    with pytest.raises(TimeoutError, match="the teacher's own"):
        list(train(student(few_digits), few_digits, SPEC, teacher=teacher))
    hook.remove()


def test_every_batch_comes_once_and_in_order_and_is_asked_before_the_one_before_it(
    few_digits: Dataset, teacher: Teacher, idle: None
) -> None:
    with ExitStack() as stack:
        side = prepare(student(few_digits), few_digits, SPEC, teacher, device="cpu", cache=None, stack=stack)
        source = side.source
        assert isinstance(source, Ahead)
        batches = list(DOMAIN.loader(few_digits, SPEC, "cpu", Group()).epoch(0, 0))
        for number, batch in enumerate(one_ahead(iter(batches), source, whole=True)):
            assert batch is batches[number]
            waiting = [known for known, _ in source.asked]
            assert all(any(known is each for each in waiting) for known in batches[number : number + 2])
            mine = source.outputs(batch).answers_MK
            other = replace(batch, x=batch.x.clone())
            assert source.outputs(other).answers_MK.equal(mine), "nobody asked of it before"
        assert number + 1 == len(batches) > 2
