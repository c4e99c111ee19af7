"""Budgets people have: milliseconds on a device, bytes, several at once; the front, and a student chosen from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archsearch.cli import app
from archsearch.data.shape import Shape
from archsearch.domains.images.task import ImageTask
from archsearch.hardware.latency import measure_latency
from archsearch.spaces import choose
from tests.service.conftest import House

# A calibration and five jobs.
pytestmark = pytest.mark.slow


def outcome(house: House, **changes: Any) -> dict[str, Any]:
    job_id = house.server.submit(house.request(**changes))
    for _ in house.server.client.watch(job_id):
        pass
    return house.server.client.job(job_id)


@pytest.fixture(scope="module")
def task(house: House) -> ImageTask:
    return ImageTask(10, 1, 8, 8, (0.5,), (0.25,))


@pytest.fixture(scope="module")
def timed(house: House, task: ImageTask) -> dict[str, Any]:
    """A search in the default space for what takes at most half as long as the largest of the ResNets."""
    (space,) = choose("resnet_cifar", task, None)
    slow = measure_latency(space.build(space.largest(task), task), Shape((1, 8, 8)), "cpu-torch")
    search = {"candidates": 24, "batch_size": 32}
    return outcome(house, kind="search", budget={"latency_ms": slow.median_ms / 2}, search=search)


def test_a_latency_is_all_a_budget_needs_to_say(timed: dict[str, Any]) -> None:
    assert timed["status"] == "succeeded", timed["error"]
    found, limit = timed["result"]["search"], timed["request"]["budget"]["latency_ms"]
    teacher = timed["result"]["teacher"]
    assert found["limit"] == {"latency_ms": limit, "params": teacher["params"], "macs": teacher["macs"]}
    assert found["infeasible_scored"] == 0
    # The teacher's own kind first; a thousand digits are too few for transformers.
    assert found["spaces"][0] == "teacher"
    assert "resnet_cifar" in found["spaces"]
    assert "vit" not in found["spaces"]
    assert found["traded"] == "latency_ms"
    assert all(member["measured"]["repeats"] >= 3 for member in found["front"])
    winner = found["winner"]
    assert winner["measured"]["latency_ms"] <= limit
    assert winner["measured"]["low_ms"] <= winner["measured"]["latency_ms"] <= winner["measured"]["high_ms"]
    fitting = [member for member in found["front"] if member["measured"]["latency_ms"] <= limit]
    assert winner["score"] >= max(member["score"] for member in fitting)


def test_the_front_can_be_looked_at_against_any_cost_that_was_looked_at(house: House, timed: dict[str, Any]) -> None:
    front = house.server.client.pareto(timed["id"])
    assert front["against"] == "latency_ms"
    assert front["front"] == timed["result"]["search"]["front"]
    assert front["winner"] == timed["result"]["search"]["winner"]["number"]
    shown = CliRunner().invoke(app, ["pareto", timed["id"], "--url", house.server.url, "--json"])
    assert (shown.exit_code, json.loads(shown.output)) == (0, front)
    by_params = house.server.client.pareto(timed["id"], "params")
    params = [member["params"] for member in by_params["front"]]
    scores = [member["score"] for member in by_params["front"]]
    assert params == sorted(params)
    assert scores == sorted(scores)
    answer = house.server.http.get(f"/v1/jobs/{timed['id']}/pareto", params={"against": "peak_activation_bytes"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "set search.trade" in answer.json()["detail"]


def test_a_member_of_the_front_is_distilled_by_its_number(house: House, timed: dict[str, Any]) -> None:
    chosen = timed["result"]["search"]["front"][0]
    student = {"job": timed["id"], "candidate": chosen["number"]}
    job = outcome(house, kind="distill", budget={}, student=student, distill={"epochs": 1, "batch_size": 64})
    assert job["status"] == "succeeded", job["error"]
    assert job["request"]["student"] == {**student, "space": None, "architecture": None}
    made = job["result"]["student"]
    assert (made["space"], made["architecture"]) == (chosen["space"], chosen["architecture"])
    assert made["params"] == chosen["params"]


def test_a_candidate_that_is_not_there_is_refused(house: House, timed: dict[str, Any]) -> None:
    request = house.request(kind="distill", budget={}, student={"job": timed["id"], "candidate": 9999})
    answer = house.server.http.post("/v1/jobs", json=request)
    assert (answer.status_code, answer.json()["field"]) == (404, "student.candidate")


def test_a_candidate_goes_with_the_teacher_and_data_it_was_scored_for(house: House, timed: dict[str, Any]) -> None:
    student = {"job": timed["id"], "candidate": timed["result"]["search"]["winner"]["number"]}
    for field, other in (("teacher", {"kind": "timm", "name": "resnet18"}), ("data", {"kind": "digits"})):
        request = house.request(kind="distill", budget={}, student=student) | {field: other}
        answer = house.server.http.post("/v1/jobs", json=request)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    request = house.request(kind="distill", budget={}, student={**student, "candidate": 10**30})
    assert house.server.http.post("/v1/jobs", json=request).status_code == 422


def test_activations_that_no_network_keeps_to_are_impossible_at_once(house: House) -> None:
    # By the closed form the smallest mobilenet holds 20,480 bytes at least; counted it holds 25,088.
    search = {"space": "mobilenet", "candidates": 4, "batch_size": 32}
    job = outcome(house, kind="search", budget={"peak_activation_bytes": 22_000}, search=search)
    assert (job["status"], job["error"]["code"]) == ("failed", "impossible_budget")
    assert "peak_activation_bytes ≥" in job["error"]["detail"]


def test_several_limits_hold_together_and_a_cost_is_traded(house: House) -> None:
    budget = {"params": 30_000, "macs": 3_000_000, "size_bytes": 90_000, "peak_activation_bytes": 40_000, "batch": 2}
    search = {"space": "resnet_cifar", "candidates": 12, "batch_size": 32, "trade": "macs", "choose": "knee",
              "sampler": "nsga2"}  # fmt: skip
    job = outcome(house, kind="search", budget=budget, search=search)
    assert job["status"] == "succeeded", job["error"]
    found = job["result"]["search"]
    assert found["limit"] == {name: limit for name, limit in budget.items() if name != "batch"}
    rows = house.server.client.candidates(job["id"])
    assert len(rows) == 12
    for row in rows:
        assert all(row[name] <= limit for name, limit in found["limit"].items()), row
    assert found["traded"] == "macs"
    assert found["winner"]["number"] in [member["number"] for member in found["front"]]


def test_an_impossible_latency_fails_with_what_is_possible(house: House) -> None:
    search = {"space": "resnet_cifar", "candidates": 4, "batch_size": 32}
    job = outcome(house, kind="search", budget={"latency_ms": 1e-4}, search=search)
    assert (job["status"], job["error"]["code"]) == ("failed", "impossible_budget")
    assert job["error"]["field"] == "budget.latency_ms"
    assert "is predicted to take" in job["error"]["detail"]
    assert job["candidates_scored"] == 0


def test_a_device_the_worker_lacks_fails_with_how_to_profile_it(house: House) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    budget = {"latency_ms": 1.0, "device": "cuda-graph"}
    job = outcome(house, kind="search", budget=budget)
    assert (job["status"], job["error"]["field"]) == ("failed", "budget.device")
    assert "archsearch profile" in job["error"]["detail"]
    assert job["candidates_scored"] == 0


def test_a_profile_of_another_machine_is_uploaded_by_the_shell_and_limits(house: House, tmp_path: Path) -> None:

    path = tmp_path / "board.json"
    args = ["profile", "--space", "resnet_cifar", "--image-size", "8", "--in-chans", "1", "--members", "10"]
    made = CliRunner().invoke(app, [*args, "--out", str(path)])
    assert made.exit_code == 0, made.output
    slowest = max(entry["latency_ms"] for entry in json.loads(path.read_text())["entries"])
    profile = house.server.client.add_profile(path, name="board")
    job = outcome(house, kind="search", budget={"latency_ms": slowest / 2, "device": profile["id"]})
    assert job["status"] == "succeeded", job["error"]
    found = job["result"]["search"]
    assert 0 < found["winner"]["latency_ms"] <= slowest / 2
    assert "measured" not in found["winner"], "that machine is not here to be timed"
