"""Images without labels over HTTP: uploaded with the others, told of, learned from; a few shots of what is there."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from archsearch.data import Dataset
from archsearch.errors import ServiceError
from tests.service.conftest import House
from tests.service.server import PATIENCE_S

pytestmark = pytest.mark.slow
STUDENT = {"depth1": 1, "depth2": 1, "depth3": 1, "width1": 8, "width2": 16, "width3": 16}


def zipped(digits: Dataset, path: Path, **more: Any) -> Path:
    """Ten images of every digit with labels, sixty without."""
    with zipfile.ZipFile(path, "w") as archive:

        def add(name: str, image: Image.Image) -> None:
            stream = io.BytesIO()
            image.save(stream, "PNG")
            archive.writestr(name, stream.getvalue())

        seen = dict.fromkeys(range(10), 0)
        apart = 0
        for x_HWC, label in zip(digits.train.pixels(slice(None)), digits.train.y_N.tolist(), strict=True):
            image = Image.fromarray(x_HWC[:, :, 0])
            if seen[label] < 10:
                add(f"{label}/{seen[label]}.png", image)
                seen[label] += 1
            elif apart < 60:
                add(f"unlabelled/{apart}.png", image)
                apart += 1
        for name, image in more.items():
            add(f"unlabelled/{name}.png", image)
    return path


def test_from_upload_to_student(house: House, digits: Dataset, tmp_path: Path) -> None:
    client = house.server.client
    row = client.add_dataset(zipped(digits, tmp_path / "a.zip"), "image_folder", name="few", wait_s=PATIENCE_S)
    assert row["splits"]["unlabelled"] == 60
    assert "unlabelled_images" in [note["code"] for note in row["notes"]]
    body = {
        "kind": "distill",
        "teacher": house.named["teacher"],
        "data": {"kind": "dataset", "id": row["id"]},
        "student": {"space": "resnet_cifar", "architecture": STUDENT},
        "distill": {"method": "kd", "epochs": 1, "batch_size": 32, "labelled_share": 0.5},
    }
    job = house.server.wait_for(house.server.submit(body), "succeeded")
    assert job["result"]["data"]["images"]["unlabelled"] == 60
    labelled = job["result"]["data"]["images"]["train"]
    assert job["result"]["student"]["recipe"]["steps"] == (labelled + 60) // 32


def test_what_is_wrong_is_said_and_loses_nothing(house: House, digits: Dataset, tmp_path: Path) -> None:
    wide = zipped(digits, tmp_path / "wide.zip", wide=Image.new("L", (16, 8)))
    with pytest.raises(ServiceError, match=r"unlabelled/wide\.png is 8×16 pixels") as caught:
        house.server.client.add_dataset(wide, "image_folder", wait_s=PATIENCE_S)
    assert caught.value.field == "image_size"
    for data, field, part in (
        ({"shots": 10_000}, "data.shots", "ask for"),
        ({"shots": 0}, "data.shots", "greater than or equal to 1"),
        ({"rest": "forget"}, "data.rest", "unlabelled"),
    ):
        body = house.request(data={**house.named["data"], **data})
        answer = house.server.http.post("/v1/jobs", json=body)
        assert answer.status_code in (400, 422), answer.text
        problem = answer.json()
        assert problem["field"] == field
        assert part in problem["detail"]


def test_a_few_shots_of_uploaded_data(house: House) -> None:
    body = {
        "kind": "distill",
        "teacher": house.named["teacher"],
        "data": {**house.named["data"], "shots": 3, "rest": "drop"},
        "student": {"space": "resnet_cifar", "architecture": STUDENT},
        "distill": {"epochs": 2},
    }
    job = house.server.wait_for(house.server.submit(body), "succeeded")
    assert job["result"]["data"]["images"]["train"] == 30
    assert "unlabelled" not in job["result"]["data"]["images"]
