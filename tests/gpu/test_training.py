"""Trainings: every loss takes its steps, answers are kept, what was killed goes on, little memory is enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.device import kind, where
from archsearch.distill.loss import losses
from archsearch.distill.train import logits, train
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec
from archsearch.spaces import spaces
from archsearch.teachers import Teacher

SPACE = spaces.get("resnet_cifar")


def spec(device: str, **changes: Any) -> DistillSpec:
    return DistillSpec(
        **{"epochs": 1, "batch_size": 128, "precision": "fp32", "compile": "off", **changes}, device=device
    )


def student(dataset: Dataset) -> nn.Module:
    torch.manual_seed(0)
    return SPACE.build(SPACE.smallest(dataset.task), dataset.task)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().cpu().flatten().double() for value in model.state_dict().values()])


@pytest.mark.parametrize("name", [loss.name for loss in losses])
def test_every_loss_takes_two_steps(name: str, device: str, taught: Teacher, few_digits: Dataset) -> None:
    try:
        reports = list(train(model := student(few_digits), few_digits, spec(device, method=name), teacher=taught))
    except InvalidRequest as error:
        pytest.skip(f"not for one label an image of convolutional networks: {error.detail}")
    assert reports[-1].step == 2
    assert kind(where(model)) == kind(device), "it stays where it was trained"
    assert weights(model).isfinite().all()


@pytest.mark.usefixtures("exact")
def test_it_learns_what_the_processor_does(device: str, taught: Teacher, few_digits: Dataset) -> None:
    there, here = student(few_digits), student(few_digits)
    list(train(there, few_digits, spec(device, method="kd"), teacher=taught))
    list(train(here, few_digits, spec("cpu", method="kd"), teacher=taught))
    assert weights(there).numpy() == pytest.approx(weights(here).numpy(), rel=0.05, abs=0.02)


@pytest.mark.usefixtures("exact")
def test_killed_and_gone_on_with_it_ends_with_the_same_weights(
    device: str, taught: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    asked, path = spec(device, method="kd", epochs=3, batch_size=64), tmp_path / "checkpoint.safetensors"
    kept: dict[str, Any] = {"teacher": taught, "checkpoint_path": path, "checkpoint_every_s": 0}
    running = train(student(few_digits), few_digits, asked, **kept)
    assert next(running).step < 12
    running.close()
    again, fresh = student(few_digits), student(few_digits)
    assert next(iter(reports := list(train(again, few_digits, asked, **kept)))).resumed_at > 0
    assert reports[-1].step == 12
    list(train(fresh, few_digits, asked, teacher=taught))
    tolerance = 0.0 if kind(device) == "cpu" else 1e-5
    assert weights(again).numpy() == pytest.approx(weights(fresh).numpy(), rel=tolerance, abs=tolerance)


def test_answers_to_views_are_asked_once(device: str, taught: Teacher, few_digits: Dataset, tmp_path: Path) -> None:
    asked = spec(device, method="kd", augment="none")
    first, second = (
        list(train(student(few_digits), few_digits, asked, teacher=taught, cache=tmp_path))[-1] for _ in range(2)
    )
    assert (first.cached, second.cached) == (0.0, 0.5) or second.cached == 1.0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_and_compiled_networks_learn(
    precision: str, device: str, taught: Teacher, few_digits: Dataset
) -> None:
    if kind(device) == "cpu":
        pytest.skip("slow, or not to be had, on a processor")
    asked = spec(device, method="kd", precision=precision, compile="auto", epochs=4)
    list(train(model := student(few_digits), few_digits, asked, teacher=taught))
    assert accuracy(lambda x: logits(model.eval(), few_digits.task, x), few_digits.selection) > 15


def test_little_memory_is_answered_by_fewer_at_a_time(device: str, taught: Teacher, few_digits: Dataset) -> None:
    if kind(device) == "cpu":
        pytest.skip("a processor's memory ends with the process")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    large = SPACE.build(SPACE.largest(few_digits.task), few_digits.task)
    held = torch.cuda.memory_reserved(device) + 6 * sum(value.nbytes for value in large.parameters()) + 2**25
    torch.cuda.set_per_process_memory_fraction(held / total, device)
    try:
        reports = list(train(large, few_digits, spec(device, method="kd", batch_size=256), teacher=taught))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        torch.cuda.empty_cache()
    assert reports[-1].step == reports[-1].steps
    assert reports[-1].micro_batch < 256
