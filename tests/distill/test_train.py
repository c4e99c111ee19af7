from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.distill.train import Progress, logits, one_cycle, scaled_lr, train
from archsearch.errors import InvalidRequest, TrainingError, UnknownName
from archsearch.request import DistillSpec
from archsearch.spaces import spaces
from archsearch.teachers import Teacher, fingerprint


def student(dataset: Dataset, space: str = "resnet_cifar", seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return spaces.get(space).build(spaces.get(space).smallest(dataset.task), dataset.task)


def spec(**fields: Any) -> DistillSpec:
    return DistillSpec(**{"epochs": 4, "batch_size": 64, **fields})


def trained(model: torch.nn.Module, *args: Any, **kwargs: Any) -> list[Progress]:
    return list(train(model, *args, **kwargs))


@pytest.mark.parametrize(
    ("space", "optimizer", "augment"), [("resnet_cifar", "sgd", "crop_flip"), ("vit", "adamw", "crop")]
)
@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_training_ends_with_the_very_same_weights(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path, space: str, optimizer: Any, augment: str, stop: int
) -> None:
    recipe, path = spec(augment=augment), tmp_path / "checkpoint.safetensors"
    whole = student(few_digits, space)
    trained(whole, few_digits, recipe, teacher=teacher, optimizer=optimizer)

    begun = student(few_digits, space)
    first = train(begun, few_digits, recipe, teacher=teacher, optimizer=optimizer, checkpoint_path=path)
    while next(first).epoch < stop:
        pass
    first.close()
    torch.manual_seed(123)  # whatever happened in between
    second = student(few_digits, space)
    reports = trained(second, few_digits, recipe, teacher=teacher, optimizer=optimizer, checkpoint_path=path)
    assert {report.resumed_at for report in reports} == {stop}
    assert fingerprint(second) == fingerprint(whole)


def test_an_interruption_within_an_epoch_repeats_that_epoch(few_digits: Dataset, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    recipe, path = spec(method="none"), tmp_path / "checkpoint.safetensors"
    whole, stopped, again = (student(few_digits) for _ in range(3))
    trained(whole, few_digits, recipe, teacher=None)
    # Each epoch has four batches and a look at the selection split: the twelfth call is in the third epoch.
    stopped.register_forward_pre_hook(_raise_at(12, Stop))
    with pytest.raises(Stop):
        trained(stopped, few_digits, recipe, teacher=None, checkpoint_path=path)
    reports = trained(again, few_digits, recipe, teacher=None, checkpoint_path=path)
    assert reports[0].resumed_at == 2
    assert fingerprint(again) == fingerprint(whole)


def _raise_at(call: int, error: type[Exception]) -> Any:
    calls = iter(range(1, 1_000_000))

    def hook(*_: Any) -> None:
        if next(calls) == call:
            raise error

    return hook


@pytest.mark.parametrize("other", ["spec", "data", "teacher", "student"])
def test_the_checkpoint_of_another_training_is_not_resumed(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path, other: str
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    recipe = spec(epochs=2)
    trained(student(few_digits), few_digits, recipe, teacher=teacher, checkpoint_path=path)
    dataset, model = few_digits, student(few_digits)
    if other == "spec":
        recipe = spec(epochs=2, temperature=2.0)
    elif other == "data":
        dataset = replace(few_digits, sha256="other")
    elif other == "teacher":
        teacher = replace(teacher, sha256="other")
    else:
        model = student(few_digits, "vit")
    reports = trained(model, dataset, recipe, teacher=teacher, checkpoint_path=path)
    assert {report.resumed_at for report in reports} == {0}


def test_a_finished_training_is_not_repeated(few_digits: Dataset, tmp_path: Path) -> None:
    path, recipe = tmp_path / "checkpoint.safetensors", spec(epochs=1, method="none")
    first, again = student(few_digits), student(few_digits)
    trained(first, few_digits, recipe, teacher=None, checkpoint_path=path)
    assert trained(again, few_digits, recipe, teacher=None, checkpoint_path=path) == []
    assert fingerprint(again) == fingerprint(first)
    assert not again.training


def test_a_student_learns_the_digits_in_a_few_epochs(digits: Dataset, teacher: Teacher) -> None:
    architecture = {"depth1": 1, "depth2": 1, "depth3": 1, "width1": 16, "width2": 16, "width3": 24}
    torch.manual_seed(0)
    model = spaces.get("resnet_cifar").build(architecture, digits.task)
    reports = trained(model, digits, spec(epochs=5, augment="none"), teacher=teacher)
    measured = accuracy(lambda x: logits(model, digits.task, x), digits.selection)
    assert measured > 60
    assert reports[-1].selection_acc == measured
    assert reports[-1].loss < reports[0].loss
    assert not model.training


def test_a_teacher_is_not_changed_by_teaching(few_digits: Dataset, teacher: Teacher) -> None:
    trained(student(few_digits), few_digits, spec(epochs=1), teacher=teacher)
    assert fingerprint(teacher.model) == teacher.sha256
    assert not teacher.model.training


def test_progress_counts_every_epoch_and_step(few_digits: Dataset) -> None:
    reports = trained(student(few_digits), few_digits, spec(epochs=3, batch_size=100, method="none"), teacher=None)
    ends = [report for report in reports if report.selection_acc is not None]
    assert [(report.epoch, report.step) for report in ends] == [(1, 2), (2, 4), (3, 6)]
    assert {(report.epochs, report.steps) for report in reports} == {(3, 6)}
    assert ends[-1].eta_s == 0


def test_the_seed_decides_order_and_augmentation(few_digits: Dataset) -> None:
    def run(seed: int) -> str:
        model = student(few_digits)
        trained(model, few_digits, spec(epochs=1, method="none", seed=seed), teacher=None)
        return fingerprint(model)

    first = run(1)
    assert run(1) == first
    assert run(2) != first


def test_a_batch_larger_than_the_data_is_refused(few_digits: Dataset) -> None:
    with pytest.raises(InvalidRequest, match="257 is more than the 256 training images") as caught:
        trained(student(few_digits), few_digits, spec(batch_size=257, method="none"), teacher=None)
    assert caught.value.field == "distill.batch_size"
    trained(student(few_digits), few_digits, spec(batch_size=256, epochs=1, method="none"), teacher=None)


def test_a_loss_that_needs_a_teacher_says_so(few_digits: Dataset) -> None:
    with pytest.raises(InvalidRequest, match="kd needs a teacher") as caught:
        trained(student(few_digits), few_digits, spec(method="kd"), teacher=None)
    assert caught.value.field == "distill.method"
    with pytest.raises(UnknownName) as unknown:
        trained(student(few_digits), few_digits, spec(method="kdd"), teacher=None)
    assert unknown.value.field == "distill.method"


def test_a_training_that_diverges_names_the_learning_rate(few_digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    model = student(few_digits, "vit")
    recipe = spec(lr=100, optimizer="sgd", method="none", weight_decay=0.1, epochs=30)
    with pytest.raises(TrainingError, match=r"lower distill.lr \(now 100\)") as caught:
        trained(model, few_digits, recipe, teacher=None, checkpoint_path=path)
    assert caught.value.field == "distill.lr"


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
