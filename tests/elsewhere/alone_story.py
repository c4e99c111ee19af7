"""Whole jobs on a device that is not there; `test_elsewhere.py` runs this file in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import archsearch.export
from archsearch import device as devices
from archsearch import evaluate
from archsearch.data import Dataset
from archsearch.local import run
from tests.elsewhere.device import NAME, Elsewhere, register

register()


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """The device, which is what `auto` means meanwhile."""
    monkeypatch.setattr(devices, "ACCELERATOR", NAME)
    monkeypatch.setattr(devices, "_gpus", lambda: 1)
    return Elsewhere()


def request(teacher: Path, **changes: Any) -> dict[str, Any]:
    return {
        "teacher": {"kind": "local", "path": str(teacher)},
        "data": {"kind": "digits"},
        "budget": {"params": 20_000},
        "search": {"space": "resnet_cifar", "candidates": 3, "precision": "fp32"},
        "distill": {
            "epochs": 1,
            "batch_size": 256,
            "precision": "fp32",
            "compile": "off",
            "seeds": 1,
            "baseline": True,
        },
        **changes,
    }


def test_a_whole_job_is_computed_there_and_gives_what_the_processor_gives(
    there: Elsewhere, teacher_folder: Path, tmp_path: Path
) -> None:
    here = run(request(teacher_folder, device="cpu"), tmp_path / "here")
    with there:
        found = run(request(teacher_folder), tmp_path / "there")
    assert there.peak_bytes > 0
    assert {found["search"]["device"], found["student"]["device"], found["teacher"]["device"]} == {NAME}
    assert {here["search"]["device"], here["student"]["device"], here["teacher"]["device"]} == {"cpu"}
    # Maps lie in memory otherwise, and what is drawn for a probe is laid over them in that order.
    assert found["search"]["winner"]["score"] == pytest.approx(here["search"]["winner"]["score"], abs=0.02)
    assert found["search"]["winner"]["architecture"] == here["search"]["winner"]["architecture"]
    for name in ("selection_acc", "test_acc"):
        assert found["student"][name] == pytest.approx(here["student"][name], abs=3)
        assert found["student"]["baseline"][name] == pytest.approx(here["student"]["baseline"][name], abs=3)
    manifest = json.loads((tmp_path / "there" / "manifest.json").read_text())
    assert manifest["machine"]["device"] == NAME


def test_several_students_and_what_stands_beside_them_are_computed_there(
    there: Elsewhere, teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "taught").symlink_to(teacher_folder)
    monkeypatch.setenv("ARCHSEARCH_PRETRAINED_DIR", str(tmp_path / "networks"))
    with there:
        found = run(request(teacher_folder, budget={"params": [20_000, 5_000]}), tmp_path / "out")
    assert [row["folder"] for row in found["students"]] == [".", "students/2"]
    second = json.loads((tmp_path / "out" / "students" / "2" / "manifest.json").read_text())
    assert second["machine"]["device"] == NAME
    assert second["student"]["baseline"]["test_acc"] > 0
    (network,) = found["stock"]
    assert network["network"] == "folder:taught"
    assert network["test_acc"] > 80


def test_evidence_that_is_kept_of_the_teacher_is_not_the_processors(
    there: Elsewhere, teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another device's numbers are a little different."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = request(teacher_folder, kind="search")
    run({**asked, "device": "cpu"}, tmp_path / "here")
    before = set((tmp_path / "cache").rglob("*.safetensors"))
    with there:
        run(asked, tmp_path / "there")
    assert len(before) == 1
    assert len(set((tmp_path / "cache").rglob("*.safetensors"))) == 2


def test_a_teacher_is_trained_and_measured_there(there: Elsewhere, tmp_path: Path) -> None:
    spec = {"epochs": 1, "batch_size": 256, "precision": "fp32", "compile": "off"}
    with there:
        found = archsearch.train_teacher(
            {"kind": "digits"}, tmp_path / "t", model_args={"depths": [1, 1, 1], "widths": [8, 8, 8]}, spec=spec
        )
    assert found["device"] == NAME
    assert there.peak_bytes > 0


def test_a_student_is_measured_and_asked_there(
    there: Elsewhere, teacher_folder: Path, few_digits: Dataset, tmp_path: Path
) -> None:
    task, student = archsearch.export.load_task(teacher_folder), archsearch.load_student(teacher_folder)
    here = evaluate.answers({"student": evaluate.network(student, task)}, few_digits.test)["student"]
    with there:
        told = evaluate.answers({"student": evaluate.network(student.to(NAME), task)}, few_digits.test)["student"]
    assert told == pytest.approx(here, abs=1e-4)
