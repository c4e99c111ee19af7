"""Teacher's check, metrics, evaluation, predictions, formats, and a whole job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import archsearch
from archsearch import evaluate
from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.device import resolve
from archsearch.export import load_student, load_task, make_formats, score_formats
from archsearch.teachers import Teacher, check_teacher


@pytest.mark.usefixtures("exact")
def test_a_teacher_knows_there_what_it_knows_here(taught: Teacher, few_digits: Dataset) -> None:
    there = accuracy(taught.logits, few_digits.selection)
    assert check_teacher(taught, few_digits).measured == there
    taught.model.cpu()
    assert there == pytest.approx(accuracy(taught.logits, few_digits.selection), abs=1.0)


@pytest.mark.usefixtures("exact")
def test_a_student_answers_there_as_here(teacher_folder: Path, few_digits: Dataset, device: str) -> None:
    task, student = load_task(teacher_folder), load_student(teacher_folder)
    here = evaluate.answers({"it": evaluate.network(student, task)}, few_digits.test)["it"]
    there = evaluate.answers({"it": evaluate.network(student.to(device), task)}, few_digits.test)["it"]
    assert there == pytest.approx(here, abs=1e-3)


@pytest.mark.usefixtures("exact")
def test_formats_are_held_against_weights_that_answer_there(
    teacher_folder: Path, few_digits: Dataset, device: str, tmp_path: Path
) -> None:
    for path in teacher_folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    task = load_task(tmp_path)
    made = make_formats(tmp_path, task, few_digits.selection, names=["pt2"])
    report = score_formats(tmp_path, made, few_digits, task, device=device)
    assert report["formats"]["pt2"]["agreement"] == 100
    assert report["formats"]["pt2"]["points_lost"] == pytest.approx(0, abs=1.0)


def test_a_whole_job_says_where_each_phase_was(teacher_folder: Path, device: str, tmp_path: Path) -> None:
    body: dict[str, Any] = {
        "kind": "search",
        "device": device,
        "teacher": {"kind": "local", "path": str(teacher_folder)},
        "data": {"kind": "digits"},
        "budget": {"params": 20_000},
        "search": {"space": "resnet_cifar", "candidates": 2},
    }
    if device != "cpu":
        body |= {"kind": "search_and_distill", "distill": {"epochs": 1, "batch_size": 256}}
    found = archsearch.run(body, tmp_path / "out")
    assert (found["search"]["device"], found["teacher"]["device"]) == (resolve(device),) * 2
    if device != "cpu":
        assert found["student"]["device"] == resolve(device)
        machine = json.loads((tmp_path / "out" / "manifest.json").read_text())["machine"]
        assert machine["device"] == resolve(device)
        (image,) = _pictures(tmp_path)
        (named,) = archsearch.predict(tmp_path / "out", image, form="torch", device=device)
        assert named.names


def _pictures(folder: Path) -> list[Path]:
    from PIL import Image

    path = folder / "digit.png"
    Image.new("L", (8, 8)).save(path)
    return [path]
