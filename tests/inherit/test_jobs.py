"""Whole jobs whose students begin with their teacher's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import archsearch
from archsearch import domains
from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.distill.train import logits
from archsearch.errors import InvalidRequest
from archsearch.export import load_config
from archsearch.local import run
from archsearch.request import LocalTeacher
from archsearch.teachers import load_teacher
from archsearch.teaching import train_teacher

pytestmark = pytest.mark.slow


def body(teacher: Path, **distill: Any) -> dict[str, Any]:
    return {
        "teacher": {"kind": "local", "path": str(teacher)},
        "data": {"kind": "digits"},
        "budget": {"macs_ratio": 0.4},
        "search": {"space": "teacher", "candidates": 8, "batch_size": 32},
        "verify": None,
        "distill": {"epochs": 2, "batch_size": 64, **distill},
    }


class Interrupt(Exception):
    """What a listener raises to stand for a crash."""


@pytest.fixture(scope="module")
def inherited(deep_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("inherited") / "student"
    return run(body(deep_folder, init="teacher"), out), out


def test_a_student_that_is_cut_out_of_its_teacher_beats_one_of_noise(
    inherited: tuple[dict[str, Any], Path], deep_folder: Path, tmp_path: Path
) -> None:
    result, _ = inherited
    assert result["student"]["start"] == "teacher"
    assert list(result["search"]["starts"]) == ["teacher"]
    assert result["search"]["winner"]["score"] < 0, "minus what is lost, in nats"
    assert result["student"]["macs"] <= 0.4 * result["teacher"]["macs"]
    scratch = run(body(deep_folder, init="scratch"), tmp_path / "scratch")
    assert scratch["student"]["start"] == "scratch"
    assert result["student"]["test_acc"] > scratch["student"]["test_acc"] + 5


def test_it_loads_again_and_reads_images_as_its_teacher_does(
    inherited: tuple[dict[str, Any], Path], deep_folder: Path, digits: Dataset
) -> None:
    result, out = inherited
    teacher: Any = load_teacher(LocalTeacher(path=deep_folder))
    config = load_config(out)["pretrained_cfg"]
    assert (tuple(config["mean"]), tuple(config["std"])) == (teacher.mean, teacher.std)
    task = domains.of(digits.task).inherits(digits.task, teacher)
    model = archsearch.load_student(out)
    assert accuracy(lambda x: logits(model, task, x), digits.test) == pytest.approx(result["student"]["test_acc"])


def test_interrupted_it_ends_with_the_same_bits(
    inherited: tuple[dict[str, Any], Path], deep_folder: Path, tmp_path: Path
) -> None:
    result, out = inherited
    for phase, at in (("searching", {"scored": 4}), ("distilling", {"epoch": 1})):

        def listen(report: dict[str, Any], phase: str = phase, at: dict[str, Any] = at) -> None:
            if report["phase"] == phase and all(report.get(name) == value for name, value in at.items()):
                raise Interrupt

        with pytest.raises(Interrupt):
            run(body(deep_folder, init="teacher"), tmp_path / "again", listener=listen)
    again = run(body(deep_folder, init="teacher"), tmp_path / "again")
    assert again["search"]["winner"] == {**result["search"]["winner"]}
    assert again["student"]["test_acc"] == result["student"]["test_acc"]
    kept, other = load_file(out / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert all(value.equal(other[name]) for name, value in kept.items())


def test_what_is_cut_out_competes_with_what_begins_with_noise(deep_folder: Path, tmp_path: Path) -> None:
    asked = body(deep_folder, init="auto")
    asked["search"]["space"] = "auto"
    result = run(asked, tmp_path / "student")
    starts = result["search"]["starts"]
    assert set(starts) == {"teacher", "scratch"}
    assert all(start["candidates_scored"] == 4 for start in starts.values())
    assert result["student"]["start"] == "teacher"
    assert result["student"]["test_acc"] > 80


def test_a_teacher_that_cannot_be_cut_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    """Its stem is wider than its first stage, which no member of its family's space is."""
    spec = {"epochs": 2, "batch_size": 64, "augment": "none"}
    args = {"depths": [1, 1, 1], "widths": [16, 24, 32], "stem": 24}
    train_teacher({"kind": "digits"}, tmp_path / "teacher", model_args=args, spec=spec)
    with pytest.raises(InvalidRequest, match=r"the teacher differs from .*; set init to 'auto' or") as caught:
        run(body(tmp_path / "teacher", init="teacher"), tmp_path / "student")
    assert caught.value.field == "distill.init"
    asked = body(tmp_path / "teacher", init="auto")
    asked["search"]["space"] = "auto"
    result = run({**asked, "kind": "search"}, tmp_path / "other")
    assert list(result["search"]["starts"]) == ["scratch"]
