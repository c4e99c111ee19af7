"""Networks with weights over HTTP: listed with what they cost, named in jobs, and students that begin as one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archsearch.teachers import describe_folder
from archsearch.teaching import train_teacher
from tests.service.server import ROOT, Server, clean

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one network, which knows digits."""
    networks = tmp_path_factory.mktemp("networks")
    args = {"depths": [1, 1, 1], "widths": [8, 12, 16]}
    spec = {"epochs": 4, "batch_size": 64, "augment": "none"}
    train_teacher({"kind": "digits"}, networks / "knows", model_args=args, spec=spec)
    return networks


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    served = Server(tmp_path_factory.mktemp("house") / "data", ARCHSEARCH_PRETRAINED_DIR=str(folder))
    try:
        yield served
    finally:
        code = served.stop()
    assert code == 0
    assert "Traceback" not in served.log.read_text().split()


@pytest.fixture(scope="module")
def named(server: Server, digits_npz: Path, teacher_folder: Path) -> dict[str, Any]:
    return server.furnish(digits_npz, teacher_folder)


def request(named: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        **named,
        "budget": {"params_ratio": 0.6},
        "search": {"space": "pretrained", "batch_size": 32},
        "distill": {"epochs": 2, "batch_size": 64},
        **changes,
    }


def test_networks_at_hand_are_listed_and_counted_once_for_each_size(server: Server) -> None:
    asked = {"image_size": 8, "in_chans": 1}
    (found,) = server.http.get("/v1/pretrained", params=asked).raise_for_status().json()
    assert (found["name"], found["source"], found["architecture"]) == ("folder:knows", "folder", "cifar_resnet")
    assert (found["trained_on"], found["refuses"], found["stock_timm"]) == ([1, 8, 8], None, False)
    assert 0 < found["params"] < found["macs"]
    started = time.monotonic()
    assert server.http.get("/v1/pretrained", params=asked).json() == [found]
    assert time.monotonic() - started < 1, "what was counted is kept"
    (larger,) = server.http.get("/v1/pretrained", params={"image_size": 16, "in_chans": 1}).json()
    assert (larger["params"], larger["macs"] > 3 * found["macs"]) == (found["params"], True)
    assert server.client.pretrained(**asked) == [found]


def test_they_are_a_space_among_the_others(server: Server) -> None:
    asked = {"image_size": 12, "in_chans": 1}
    (unknown,) = [space for space in server.client.spaces(**asked) if space["name"] == "pretrained"]
    assert (unknown["refuses"], unknown["cardinality"]) == ("none at hand is known to: ask /v1/pretrained", 0)
    (network,) = server.client.pretrained(**asked)
    space = server.http.get("/v1/spaces/pretrained", params=asked).raise_for_status().json()
    assert space == server.client.spaces(**asked)[-1]
    assert (space["refuses"], space["cardinality"]) == (None, 1)
    assert [(p["name"], p["low"], p["high"]) for p in space["parameters"]] == [("network", 0, 0)]
    member = {"architecture": {"network": 0}, "params": network["params"], "macs": network["macs"]}
    assert space["smallest"] == space["largest"] == member
    assert "pretrained" not in {space["name"] for space in server.client.spaces(domain="text_classification")}


def test_a_student_begins_as_a_network_of_the_folder_or_as_a_registered_one(
    server: Server, named: dict[str, Any], folder: Path
) -> None:
    # The same weights, handed in.
    weights = folder / "knows" / "model.safetensors"
    own = server.client.add_teacher(describe_folder(folder / "knows"), weights=weights, wait_s=60)["id"]
    zipped = server.client.add_teacher({"kind": "folder"}, weights=folder / "knows", wait_s=60)["id"]
    search = {"space": "pretrained", "batch_size": 32, "pretrained": ["folder:knows", own, zipped]}
    job = server.wait_for(server.submit(request(named, search=search)), "succeeded")
    result = job["result"]
    assert result["pretrained"]["networks"] == sorted(["folder:knows", own, zipped])
    assert result["student"]["begins_as"] in result["pretrained"]["networks"]
    assert result["student"]["test_acc"] > 80
    candidates = server.http.get(f"/v1/jobs/{job['id']}/candidates").json()
    assert len({candidate["score"] for candidate in candidates}) == 1, "they are the same network"
    assert {candidate["start"] for candidate in candidates} == {"pretrained"}
    # Another of them, by its number, in a job of its own.
    other = next(one for one in candidates if one["number"] != result["search"]["winner"]["number"])
    followed = {"kind": "distill", "student": {"job": job["id"], "candidate": other["number"]}}
    again = server.wait_for(server.submit({**followed, "distill": {"epochs": 1, "batch_size": 64}}), "succeeded")
    assert again["result"]["student"]["begins_as"] != result["student"]["begins_as"]


def test_a_teacher_stays_while_a_job_may_take_it_for_a_student(
    server: Server, named: dict[str, Any], folder: Path
) -> None:
    weights = folder / "knows" / "model.safetensors"
    own = server.client.add_teacher(describe_folder(folder / "knows"), weights=weights, name="mine", wait_s=60)["id"]
    long = request(named, search={"space": "pretrained", "batch_size": 32, "pretrained": [own, "folder:knows"]})
    long["distill"] = {"epochs": 500, "batch_size": 64}
    assert own != long["teacher"]["id"]
    job = server.submit(long)
    answer = server.http.delete(f"/v1/teachers/{own}")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    server.client.cancel(job)
    server.wait_for(job, "cancelled")
    assert server.http.delete(f"/v1/teachers/{own}").status_code == 204


@pytest.mark.parametrize(
    ("pretrained", "status", "code", "field", "part"),
    [
        (["folder:knosw"], 422, "unknown_name", "search.pretrained.0", "did you mean 'folder:knows'?"),
        (["folder:knows", "resnet19.a1_in1k"], 422, "unknown_name", "search.pretrained.1", "unknown timm model"),
        (["tch_" + 20 * "0"], 404, "not_found", "search.pretrained.0", "tch_"),
        (["local-dir:/etc"], 422, "invalid_request", "search.pretrained.0.name", "names no timm model"),
        (["folder:../data"], 422, "invalid_request", "search.pretrained.0.name", "pattern"),
        ([{"kind": "folder", "path": "/etc"}], 422, "invalid_request", "search.pretrained.0", "unknown field 'path'"),
        ([], 422, "invalid_request", "search.pretrained", "names no network"),
    ],
)
def test_what_is_not_to_be_had_is_refused_at_once(
    server: Server, named: dict[str, Any], pretrained: list[Any], status: int, code: str, field: str, part: str
) -> None:
    asked = request(named, search={"space": "pretrained", "pretrained": pretrained})
    answer = server.http.post("/v1/jobs", json=asked)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (status, code, field), problem
    assert part in problem["detail"]
    assert str(ROOT) not in answer.text


def test_the_shell_lists_the_same(server: Server, folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "archsearch", "pretrained", "--image-size", "8", "--in-chans", "1"]
    environment = clean({"ARCHSEARCH_PRETRAINED_DIR": str(folder), "XDG_CACHE_HOME": str(tmp_path)})
    run: dict[str, Any] = {"cwd": ROOT, "env": environment, "text": True, "capture_output": True, "check": True}
    told = json.loads(subprocess.run([*command, "--json"], **run).stdout)
    listed = server.http.get("/v1/pretrained", params={"image_size": 8, "in_chans": 1}).json()
    assert told == listed
    table = subprocess.run(command, **run).stdout
    assert "folder:knows" in table
    assert "cifar_resnet, trained on 8×8 pixels of 1 channel; in the folder" in " ".join(table.split())
    nothing = subprocess.run(command, **{**run, "env": clean({"XDG_CACHE_HOME": str(tmp_path)})}).stdout
    assert "no network with weights is at hand" in nothing
