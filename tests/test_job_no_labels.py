"""Whole jobs on images of which none has a label: the teacher's classes, its answers, and agreement with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import archsearch
from archsearch.cli.outcome import sentences
from archsearch.data import Dataset
from archsearch.errors import InvalidRequest
from archsearch.teaching import train_teacher
from tests.test_job_unlabelled import quietly, request

IMAGES = 400


@pytest.fixture(scope="module")
def npz(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("none") / "digits.npz"
    np.savez(path, x_unlabelled=digits.train.pixels(slice(0, IMAGES)))
    return path


@pytest.fixture(scope="module")
def folder(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("none") / "photos"
    root.mkdir()
    for row, x_HWC in enumerate(digits.train.pixels(slice(0, IMAGES))):
        Image.fromarray(x_HWC[:, :, 0]).save(root / f"{row:04}.png")
    return root


def told(value: Any) -> str:
    return json.dumps(value).replace("balanced_acc", "").lower()


@pytest.mark.slow
def test_an_npz_becomes_a_student_judged_by_agreement(
    npz: Path, teacher_folder: Path, digits: Dataset, tmp_path: Path
) -> None:
    body = request(teacher_folder, {"kind": "npz", "path": str(npz)}, distill={"epochs": 8, "batch_size": 32})
    heard: list[dict[str, Any]] = []
    found = archsearch.run(body, tmp_path / "out", listener=heard.append)
    student, teacher = found["student"], found["teacher"]
    assert found["judged_by"]["name"] == "agreement with the teacher"
    assert found["data"]["images"] == {"train": 260, "selection": 60, "test": 80}
    assert found["data"]["classes"] == 10
    assert (student["labels"], student["method"]) == (0, "dist")
    assert student["test_agreement"] == student["evaluation"]["student"]["agreement"] > 40
    assert not any("acc" in name or "agreement" in name for name in teacher)
    assert found["warnings"][0]["code"] == "no_labels"
    assert "no label was seen" in found["warnings"][0]["detail"]
    assert sentences(found, "out")[0].endswith("of the test split; no label was seen, of either.")
    epochs = [report for report in heard if report.get("selection_acc") is not None]
    assert {report["metric"] for report in epochs} == {"agreement"}
    check_no_accuracy(tmp_path / "out")
    # Measured where somebody has labels, it is an ordinary network.
    answers = archsearch.predict(tmp_path / "out", [write(digits, tmp_path)])
    assert answers[0].names


def check_no_accuracy(out: Path) -> None:
    """No file of a student says a word of accuracy, or shows what only labels tell."""
    card, evaluation = (out / "README.md").read_text(), json.loads((out / "evaluation.json").read_text())
    assert "accura" not in told(card)
    assert "judged by agreement with the teacher" in card
    assert "no label was seen" in card
    assert evaluation["held_against"].startswith("the teacher's first answers; no label was seen")
    assert list(evaluation["networks"]) == ["student"]
    row = evaluation["networks"]["student"]
    assert {"agreement", "agreement_low", "agreement_high", "kl_to_teacher", "confusion"} <= row.keys()
    assert not {"top1_acc", "nll", "ece", "bins"} & row.keys()
    assert all("agreement" in each and "accuracy" not in each for each in row["per_class"])
    report = json.loads((out / "report.json").read_text())
    assert report["metric"] == "agreement"
    assert (out / "confusion.png").is_file()
    assert not (out / "calibration.png").exists()


def write(digits: Dataset, folder: Path) -> Path:
    (x_HWC,) = digits.test.pixels(slice(0, 1))
    Image.fromarray(x_HWC[:, :, 0]).save(folder / "photo.png")
    return folder / "photo.png"


@pytest.mark.slow
def test_a_folder_becomes_two_students_after_a_search_and_a_verification(
    folder: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    body = request(
        teacher_folder,
        {"kind": "image_folder", "path": str(folder)},
        kind="search_and_distill",
        student=None,
        budget={"params_ratio": 0.7},
        search={"space": "resnet_cifar", "candidates": 4, "batch_size": 32},
        students=2,
        verify={"candidates": 2, "epochs": 1},
        distill={"epochs": 1, "batch_size": 32},
    )
    found = quietly(body, tmp_path / "out")
    assert found["verify"]["judged_by"]["key"] == "agreement"
    assert "selection_agreement" in found["verify"]["candidates"][0]
    for row in found["students"]:
        low, high = row["interval"]
        assert low <= row["test_agreement"] <= high
    front = json.loads((tmp_path / "out" / "front.json").read_text())
    assert (front["judged_by"]["key"], front["teacher"]["test_agreement"]) == ("agreement", None)
    check_no_accuracy(tmp_path / "out")
    again = quietly(body, tmp_path / "out")  # it is there, and what it was
    assert again["student"]["test_agreement"] == found["student"]["test_agreement"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"distill": {"method": "none"}}, "distill.method"),
        ({"distill": {"labels": 1}}, "distill.labels"),
        ({"distill": {"class_weights": "balanced"}}, "distill.class_weights"),
        ({"distill": {"baseline": True}}, "distill.baseline"),
        ({"shots": 3}, "data.shots"),
        ({"head": "probe"}, "teacher.head"),
        ({"head": "none"}, "teacher.head"),
        ({"classes": "as_is"}, "teacher.classes"),
    ],
)
def test_what_asks_for_labels_is_refused_before_anything_is_spent(
    npz: Path, teacher_folder: Path, tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    body = request(teacher_folder, {"kind": "npz", "path": str(npz)})
    part, _, name = field.partition(".")
    body[part] = {**body[part], **changes.get(part, changes)}
    with pytest.raises(InvalidRequest) as caught:
        quietly(body, tmp_path / "out")
    assert caught.value.field == field, name
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_no_teacher_is_trained_on_them(npz: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="a teacher learns from labels") as caught:
        train_teacher({"kind": "npz", "path": str(npz)}, tmp_path / "teacher")
    assert caught.value.field == "data"
