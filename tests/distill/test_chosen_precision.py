from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch.data import Dataset
from archsearch.distill import chosen_precision
from archsearch.distill.attempts import computed_in, fallback
from archsearch.distill.chosen_precision import Chosen, choose, fastest, fewest_steps, network_kind, told
from archsearch.distill.group import Group
from archsearch.distill.progress import Progress
from archsearch.distill.timed_step import ROUNDS, WARM_UPS, Training, step_seconds
from archsearch.distill.train import train
from archsearch.precision import training_cast
from archsearch.request import DistillSpec
from archsearch.spaces import spaces
from archsearch.teachers import Teacher, fingerprint

HALF_IS_FASTER, HALF_IS_SLOWER = {"fp32": 0.97, "bf16": 0.42}, {"fp32": 0.42, "bf16": 0.97}


@pytest.fixture(autouse=True)
def has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archsearch.precision._has_bf16", lambda where: True)


@pytest.fixture
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of any length are worth the measurement."""
    monkeypatch.setattr(chosen_precision, "_SHARE", 1e9)


class Timed:
    """What steps take, told instead of timed; counts how often it is asked."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.asked = seconds, 0

    def __call__(self, training: Training) -> dict[str, float]:
        self.asked += 1
        return self.seconds


@pytest.fixture
def timed(worth_it: None, monkeypatch: pytest.MonkeyPatch) -> Timed:
    found = Timed(HALF_IS_SLOWER)
    monkeypatch.setattr(chosen_precision, "step_seconds", found)
    return found


def student(dataset: Dataset, space: str = "resnet_cifar", seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return spaces.get(space).build(spaces.get(space).smallest(dataset.task), dataset.task)


def trained(dataset: Dataset, teacher: Teacher | None, model: torch.nn.Module | None = None, **kept: Any) -> Progress:
    fields = {"epochs": 1, "batch_size": 64, "device": "cpu", "method": "kd", "seed": 0}
    spec = DistillSpec(**{name: kept.pop(name, value) for name, value in fields.items()})
    *_, last = train(model or student(dataset), dataset, spec, teacher=teacher, **kept)
    return last


def of(dataset: Dataset, teacher: Teacher | None, **fields: Any) -> Training:
    spec = DistillSpec(**{"epochs": 1, "batch_size": 64, "method": "kd", **fields})
    return Training(student(dataset), dataset, spec, teacher, "cpu", Group(), None, lambda *at: None)


def chosen(dataset: Dataset, teacher: Teacher | None, cache: Path, **fields: Any) -> Chosen:
    return choose(replace(of(dataset, teacher, **fields), cache=cache), None, str)


def test_what_is_less_exact_has_to_be_clearly_faster() -> None:
    assert fastest({"fp32": 1.0, "bf16": 0.95}) == "fp32"
    assert fastest({"fp32": 1.0, "bf16": 0.89}) == "bf16"
    assert fastest({"fp32": 1.0, "bf16": 0.5, "fp16": 0.48}) == "bf16"
    assert fastest({"fp32": 1.0, "bf16": 1.5, "fp16": 0.6}) == "fp16"


def test_it_is_told_with_its_times() -> None:
    assert told(HALF_IS_FASTER) == "bf16: 0.42 s a step against 0.97 s in fp32, measured"
    assert told({"fp32": 0.0123, "bf16": 0.02}) == "fp32: 12.3 ms a step against 20 ms in bf16, measured"


def test_a_short_training_computes_as_before_there_was_a_measurement(
    few_digits: Dataset, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Timed(HALF_IS_SLOWER)
    monkeypatch.setattr(chosen_precision, "step_seconds", asked)
    by_rule, in_bf16 = student(few_digits), student(few_digits)
    last = trained(few_digits, teacher, by_rule)
    assert (last.precision, asked.asked) == ("bf16", 0)
    assert last.precision_why == "bf16: 4 steps are too few to time both, which takes 700"
    spec = DistillSpec(epochs=1, batch_size=64, device="cpu", method="kd", precision="bf16")
    list(train(in_bf16, few_digits, spec, teacher=teacher))
    assert fingerprint(by_rule) == fingerprint(in_bf16)


def test_a_fiftieth_of_a_training_is_what_timing_may_take() -> None:
    assert 2 * (WARM_UPS + ROUNDS) / fewest_steps(DistillSpec(), "cpu") == pytest.approx(0.02)
    assert fewest_steps(DistillSpec(compile="on"), "cpu") == 20 * fewest_steps(DistillSpec(), "cpu")


def test_what_is_measured_is_kept(few_digits: Dataset, teacher: Teacher, tmp_path: Path, timed: Timed) -> None:
    first = chosen(few_digits, teacher, tmp_path)
    assert first == Chosen("fp32", "fp32: 0.42 s a step against 0.97 s in bf16, measured")
    assert (chosen(few_digits, teacher, tmp_path, seed=1), timed.asked) == (first, 1)
    (kept,) = tmp_path.glob("precision-*.json")
    assert json.loads(kept.read_text())["seconds"] == HALF_IS_SLOWER
    chosen(few_digits, teacher, tmp_path, batch_size=32)
    chosen(few_digits, None, tmp_path, method="none")
    assert timed.asked == 3, "other steps are timed for themselves"


def test_a_damaged_file_is_measured_again(
    few_digits: Dataset, tmp_path: Path, timed: Timed, subtests: pytest.Subtests
) -> None:
    chosen(few_digits, None, tmp_path, method="none")
    (kept,) = tmp_path.glob("precision-*.json")
    whole = kept.read_text()
    damages = ("", "{", "[1]", '{"precision": "fp8", "why": "x"}', '{"precision": "bf16"}')
    for times, damage in enumerate(damages, 2):
        with subtests.test(damage):
            kept.write_text(damage)
            assert chosen(few_digits, None, tmp_path, method="none").precision == "fp32"
            assert (timed.asked, kept.read_text()) == (times, whole)


def test_what_is_asked_for_is_not_measured(few_digits: Dataset, tmp_path: Path, timed: Timed) -> None:
    for precision in ("bf16", "fp32"):
        assert chosen(few_digits, None, tmp_path, method="none", precision=precision) == Chosen(precision, "")
    assert timed.asked == 0


@pytest.mark.parametrize("beside", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_training_goes_on_as_it_began_whatever_is_measured_by_then(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path, timed: Timed, beside: bool
) -> None:
    whole = student(few_digits)
    trained(few_digits, teacher, whole, epochs=2)
    kept = {"checkpoint_path": tmp_path / "job" / "student-0.safetensors", "checkpoint_every_s": 0}
    spec = DistillSpec(epochs=2, batch_size=64, device="cpu", method="kd")
    course = train(student(few_digits), few_digits, spec, teacher=teacher, cache=tmp_path / "here", **kept)
    assert next(report for report in course if report.epoch == 1).precision == "fp32"
    course.close()
    timed.seconds = HALF_IS_FASTER
    if not beside:
        for file in (tmp_path / "job").glob("precision-*.json"):
            file.unlink()
    second = student(few_digits)
    last = trained(few_digits, teacher, second, epochs=2, cache=tmp_path / "another machine", **kept)
    assert (last.precision, last.resumed_at, timed.asked) == ("fp32", 4, 2)
    assert fingerprint(second) == fingerprint(whole)
    assert computed_in(kept["checkpoint_path"], "cpu") == "fp32"


def test_seeds_and_the_baseline_of_a_job_compute_alike(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path, timed: Timed
) -> None:
    trained(few_digits, teacher, checkpoint_path=tmp_path / "student-0.safetensors", cache=tmp_path / "here")
    timed.seconds = HALF_IS_FASTER
    for name, fields in (("student-1", {"seed": 1}), ("baseline-0", {"method": "none"})):
        path = tmp_path / f"{name}.safetensors"
        last = trained(few_digits, teacher, checkpoint_path=path, cache=tmp_path / "another", **fields)
        assert (last.precision, timed.asked) == ("fp32", 1)


@pytest.mark.slow
def test_a_checkpoint_of_before_there_was_a_choice_is_gone_on_from(
    few_digits: Dataset, teacher: Teacher, tmp_path: Path, timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, spec = tmp_path / "student-0.safetensors", DistillSpec(epochs=2, batch_size=64, device="cpu", method="kd")
    with monkeypatch.context() as before:
        before.setattr("archsearch.distill.train.choose", lambda *_: Chosen("auto"))
        course = train(student(few_digits), few_digits, spec, teacher=teacher, checkpoint_path=path)
        assert next(report for report in course if report.epoch == 1).precision == "bf16"
        course.close()
    last = trained(few_digits, teacher, epochs=2, checkpoint_path=path)
    assert (last.precision, last.resumed_at, timed.asked) == ("bf16", 4, 0)
    assert computed_in(path, "cpu") == "bf16"
    assert trained(few_digits, teacher, seed=1, checkpoint_path=tmp_path / "student-1.safetensors").precision == "bf16"


def test_half_precision_that_was_measured_to_be_faster_and_diverges_is_told(
    few_digits: Dataset, tmp_path: Path, timed: Timed
) -> None:
    def spoil(model: torch.nn.Module, _: Any, logits_BK: torch.Tensor) -> torch.Tensor:
        return logits_BK * torch.nan if model.training and torch.is_autocast_enabled("cpu") else logits_BK

    timed.seconds = HALF_IS_FASTER
    model = student(few_digits)
    model.register_forward_hook(spoil)
    path, spec = tmp_path / "student-0.safetensors", DistillSpec()
    last = trained(few_digits, None, model, method="none", checkpoint_path=path)
    assert (last.precision, last.precision_wanted) == ("fp32", "bf16")
    note = fallback(last, spec)
    assert note is not None
    assert note.detail.startswith("in bf16 the training diverged")
    timed.seconds = HALF_IS_SLOWER
    assert fallback(trained(few_digits, None, method="none", cache=tmp_path / "another"), spec) is None


@pytest.mark.parametrize(
    "method", ["kd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("at", "crd", "blockwise"))]
)
def test_timing_leaves_everything_as_it_was(few_digits: Dataset, teacher: Teacher, method: str) -> None:
    training = of(few_digits, teacher, method=method)
    model, taught = training.student, fingerprint(teacher.model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    seconds = step_seconds(training)
    assert torch.rand(1).equal(expected)
    assert set(seconds) == {"fp32", "bf16"}
    assert min(seconds.values()) > 0
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None and weight.is_contiguous() for weight in model.parameters())
    assert fingerprint(teacher.model) == taught
    assert not teacher.model._forward_hooks
    assert not any(module._forward_hooks for module in model.modules())


def test_what_does_not_fit_is_timed_in_parts(few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def full(training: Training, side: Any, size: int) -> dict[str, float]:
        sizes.append(size)
        if size > 16:
            raise torch.OutOfMemoryError("full")
        return {"fp32": 1.0}

    monkeypatch.setattr("archsearch.distill.timed_step._medians", full)
    assert step_seconds(of(few_digits, None, method="none")) == {"fp32": 1.0}
    assert sizes == [64, 32, 16]


def test_networks_of_a_kind_differ_in_depth_alone(few_digits: Dataset) -> None:
    space, task = spaces.get("resnet_cifar"), few_digits.task
    small = dict(space.smallest(task))
    deep = {name: value + 1 if name.startswith("depth") else value for name, value in small.items()}
    wide = {name: 4 * value if name.startswith("width") else value for name, value in small.items()}
    kinds = [network_kind(space.build(each, task)) for each in (small, deep, wide)]
    assert kinds[0] == kinds[1] != kinds[2]
    assert network_kind(student(few_digits, "mobilenet"))["grouped"] > 0


def test_depthwise_convolutions_of_a_step_are_exact() -> None:
    x, weight = torch.ones(1, 4, 4, 4), torch.ones(4, 1, 3, 3, requires_grad=True)
    grouped = torch.ones(4, 2, 3, 3, requires_grad=True)
    with training_cast("bf16", "cpu"):
        assert torch.conv2d(x, weight, padding=1, groups=4).dtype == torch.float32
        assert torch.conv2d(x, grouped, padding=1, groups=2).dtype == torch.bfloat16
        with torch.no_grad():
            assert torch.conv2d(x, weight, padding=1, groups=4).dtype == torch.bfloat16


AGREE = """
import sys
import torch.distributed as dist
from archsearch.distill.chosen_precision import Chosen, _agreed

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
print(_agreed(Chosen("fp32" if rank == 0 else "bf16"), "cpu").precision)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_that_train_together_compute_in_what_the_first_has_chosen(tmp_path: Path) -> None:
    meeting = str(tmp_path / "meeting")
    both = [
        subprocess.Popen([sys.executable, "-c", AGREE, str(rank), meeting], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == ["fp32", "fp32"]
