"""Several students of one job over HTTP: refused by their limit, found, downloaded one by one or all, and resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import archsearch
from tests.service.server import Server, wait

pytestmark = pytest.mark.slow
WEIGHTS = "model.safetensors"
EPOCHS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    served = Server(tmp_path_factory.mktemp("several") / "data")
    try:
        yield served
    finally:
        code = served.stop()
    assert code == 0
    assert "Traceback" not in served.log.read_text().split()


@pytest.fixture(scope="module")
def asked(server: Server, digits_npz: Path, teacher_folder: Path) -> dict[str, Any]:
    return {
        **server.furnish(digits_npz, teacher_folder),
        "budget": {"params_ratio": [0.14, 0.5]},
        "search": {"space": "resnet_cifar", "candidates": 6, "batch_size": 32},
        "distill": {"epochs": EPOCHS, "batch_size": 32},
    }


@pytest.fixture(scope="module")
def done(server: Server, asked: dict[str, Any]) -> dict[str, Any]:
    """An uninterrupted job."""
    return server.wait_for(server.submit(asked), "succeeded")


def test_both_students_and_their_picture_are_downloaded(server: Server, done: dict[str, Any], tmp_path: Path) -> None:
    job, rows = done["id"], done["result"]["students"]
    assert done["request"]["students"]["params_ratio"] == [0.5, 0.14], "the loosest first"
    assert [row["folder"] for row in rows] == [".", "students/2"]
    server.client.download(job, tmp_path / "all")
    for row in rows:
        folder = tmp_path / "all" / row["folder"]
        model = archsearch.load_student(folder)
        assert sum(p.numel() for p in model.parameters()) == row["params"] <= row["limits"]["params"]
        assert json.loads((folder / "manifest.json").read_text())["job"] == job
    picture = ElementTree.parse(tmp_path / "all" / "front.svg").getroot()
    assert {child.tag.rpartition("}")[2] for child in picture.iter()} >= {"title", "desc", "circle", "polygon"}
    server.client.download(job, tmp_path / "second", student=2)
    one, other = ((tmp_path / where / WEIGHTS).read_bytes() for where in ("second", "all/students/2"))
    assert one == other != (tmp_path / "all" / WEIGHTS).read_bytes()


def test_a_file_of_the_second_is_an_artifact_like_any_other(server: Server, done: dict[str, Any]) -> None:
    path = f"/v1/jobs/{done['id']}/artifacts"
    first, second = (server.http.get(path, params=params).json() for params in ({}, {"student": 2}))
    assert server.http.get(path, params={"student": 1}).json() == first
    assert {"front.json", "front.svg", WEIGHTS, "student.zip"} <= {one["name"] for one in first}
    assert {f"students/2/{name}" for name in (WEIGHTS, "student.onnx", "student.zip")} <= {
        one["name"] for one in second
    }
    weights = next(one for one in second if one["name"].endswith(WEIGHTS))
    url = f"/v1/artifacts/{weights['id']}/content"
    whole = server.http.get(url)
    assert hashlib.sha256(whole.content).hexdigest() == weights["sha256"]
    assert whole.headers["content-disposition"].endswith(f'filename="{WEIGHTS}"')
    part = server.http.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    again = server.http.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    nobody = server.http.get(path, params={"student": 3})
    assert (nobody.status_code, nobody.json()["field"]) == (404, "student")
    picture = next(one for one in first if one["name"] == "front.svg")
    assert server.http.get(f"/v1/artifacts/{picture['id']}/content").headers["content-type"] == "image/svg+xml"


def test_events_say_whose_phase_it_is_and_progress_never_goes_back(server: Server, done: dict[str, Any]) -> None:
    events = server.events(done["id"])
    phases = [(e["data"]["phase"], e["data"].get("student")) for e in events if e["type"] == "phase"]
    assert [one for one in phases if one[0] == "distilling"] == [("distilling", 1), ("distilling", 2)]
    shares = [e["data"]["progress"] for e in events if e["type"] == "progress" and e["data"]["phase"] == "distilling"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_impossible_limits_are_refused_by_field_and_nothing_is_queued(server: Server, asked: dict[str, Any]) -> None:
    before = len(server.client.jobs())
    for budget, field, part in (
        ({"params": [5000, 1000]}, "budget.params.1", "the nearest possible budget has params ≥ 3,890"),
        ({"params": [5000, 4000], "macs": [10, 9]}, "budget.macs", "only one cost"),
        ({"params": [5000, 5000]}, "budget.params.1", "is there twice"),
    ):
        answer = server.http.post("/v1/jobs", json={**asked, "budget": budget})
        assert (answer.status_code, answer.json()["field"]) == (422, field)
        assert part in answer.json()["detail"]
    assert len(server.client.jobs()) == before


def test_killed_in_the_second_training_it_goes_on_to_the_same_bits(
    server: Server, asked: dict[str, Any], done: dict[str, Any], tmp_path: Path
) -> None:
    job = server.submit(asked)

    def second_under_way() -> bool:
        told = [event["data"] for event in server.events(job) if event["type"] == "progress"]
        last = told[-1] if told else {}
        return last.get("phase") == "distilling" and last.get("student") == 2 and last.get("epoch", 0) >= 2

    wait(second_under_way, lambda: str(server.client.job(job)))
    server.kill_worker()
    again = server.wait_for(job, "succeeded")
    assert again["attempt"] == 2
    events = server.events(job)
    after = [e["data"] for e in events if e["type"] == "progress" and e["data"]["phase"] == "distilling"]
    assert any(one.get("resumed_at", 0) > 0 and one["student"] == 2 for one in after), (
        "it went on, and not from its start"
    )
    for where, number in (("one", done["id"]), ("other", job)):
        server.client.download(number, tmp_path / where)
    for name in (WEIGHTS, f"students/2/{WEIGHTS}"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert [row["number"] for row in again["result"]["students"]] == [
        row["number"] for row in done["result"]["students"]
    ]
