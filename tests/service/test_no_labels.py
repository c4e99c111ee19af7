"""Images without any label over HTTP: uploaded, told of as such, and a student of the teacher's classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch.data import Dataset
from archsearch.errors import ServiceError
from tests.service.conftest import House
from tests.service.server import PATIENCE_S
from tests.service.test_unlabelled import STUDENT

pytestmark = pytest.mark.slow


def uploaded(house: House, digits: Dataset, folder: Path, name: str = "none.npz") -> dict[str, Any]:
    path = folder / name
    np.savez(path, x_unlabelled=digits.train.pixels(slice(0, 300)))
    row: dict[str, Any] = house.server.client.add_dataset(path, "npz", name="none", wait_s=PATIENCE_S)
    return row


def test_from_upload_to_student(house: House, digits: Dataset, tmp_path: Path) -> None:
    client = house.server.client
    row = uploaded(house, digits, tmp_path)
    assert (row["task"]["truth"], row["task"]["classes"], row["task"]["class_names"]) == ("teacher", 0, [])
    assert row["splits"] == {"train": 195, "selection": 45, "test": 60}
    assert [note["code"] for note in row["notes"]] == ["no_labels"]
    named = {"kind": "dataset", "id": row["id"]}
    teacher = client.add_teacher({}, weights=house.teacher, data=named, wait_s=PATIENCE_S)
    assert teacher["status"] == "ready", teacher
    assert (teacher["facts"]["num_classes"], teacher["facts"]["selection_acc"]) == (10, None)
    assert teacher["facts"]["judged_by"]["key"] == "agreement"
    body = {
        "teacher": {"kind": "teacher", "id": teacher["id"]},
        "data": named,
        "budget": {"params_ratio": 0.5},
        "search": {"space": "resnet_cifar", "candidates": 4, "batch_size": 32},
        "verify": None,
        "distill": {"epochs": 2, "batch_size": 32},
    }
    job = house.server.wait_for(house.server.submit(body), "succeeded")
    result = job["result"]
    assert result["judged_by"]["name"] == "agreement with the teacher"
    assert (result["data"]["sha256"], result["data"]["classes"]) == (row["sha256"], 10)
    assert 0 < result["student"]["test_agreement"] <= 100
    assert "no_labels" in [warning["code"] for warning in result["warnings"]]
    client.download(job["id"], tmp_path / "student")
    card = (tmp_path / "student" / "README.md").read_text()
    assert "judged by agreement with the teacher" in card
    assert "no label was seen" in card
    # Any candidate of it again, by its number, and its teacher and data.
    again = {"kind": "distill", "student": {"job": job["id"], "candidate": 0}, "distill": {"epochs": 1}}
    assert "test_agreement" in house.server.wait_for(house.server.submit(again), "succeeded")["result"]["student"]


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"distill": {"labels": 0.5}}, "distill.labels", "no example has one"),
        ({"distill": {"method": "none"}}, "distill.method", "learns from labels"),
        ({"distill": {"baseline": True}}, "distill.baseline", "labels alone"),
        ({"distill": {"class_weights": "balanced"}}, "distill.class_weights", "no example has one"),
        ({"teacher": {"head": "probe"}}, "teacher.head", "fits a head to labels"),
        ({"teacher": {"head": "none"}}, "teacher.head", "nothing to judge"),
        ({"teacher": {"classes": "as_is"}}, "teacher.classes", "they are the teacher's"),
        ({"data": {"shots": 2}}, "data.shots", "no example has a label"),
    ],
)
def test_what_asks_for_labels_is_refused_when_it_is_submitted(
    house: House, digits: Dataset, tmp_path: Path, changes: dict[str, Any], field: str, part: str
) -> None:
    named = {"kind": "dataset", "id": uploaded(house, digits, tmp_path)["id"]}
    body = {
        "kind": "distill",
        "teacher": {**house.named["teacher"], **changes.get("teacher", {})},
        "data": {**named, **changes.get("data", {})},
        "student": {"space": "resnet_cifar", "architecture": STUDENT},
        "distill": changes.get("distill", {}),
    }
    answer = house.server.http.post("/v1/jobs", json=body)
    problem = answer.json()
    assert answer.status_code == 422, problem
    assert problem["field"] == field
    assert part in problem["detail"]


def test_a_teacher_whose_head_takes_labels_is_refused_when_it_is_registered(
    house: House, digits: Dataset, tmp_path: Path
) -> None:
    named = {"kind": "dataset", "id": uploaded(house, digits, tmp_path)["id"]}
    with pytest.raises(ServiceError, match="fits a head to labels") as caught:
        house.server.client.add_teacher({"head": "probe"}, weights=house.teacher, data=named)
    assert caught.value.field == "source.head"
