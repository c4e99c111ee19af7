from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from archsearch import register
from archsearch.domains.images.task import ImageTask
from archsearch.hardware import profile as profile_module
from archsearch.spaces import spaces
from archsearch.store.models import ProfileRow
from tests.api.conftest import finish

if TYPE_CHECKING:
    from .conftest import Refused


TASK = ImageTask(10, 1, 8, 8, (0.5,), (0.25,))


@pytest.fixture
def profile() -> dict[str, Any]:
    """What a client's machine might have measured: every million MACs takes a millisecond."""
    space, rng = spaces.get("resnet_cifar"), random.Random(0)
    entries = []
    for _ in range(20):
        architecture = {p.name: rng.choice(p.values) for p in space.parameters(TASK)}
        latency = 0.1 + space.cost(architecture, TASK).macs / 1e6
        entries.append(
            {
                "space": space.name,
                "architecture": architecture,
                "latency_ms": latency,
                "low_ms": latency * 0.98,
                "high_ms": latency * 1.02,
            }
        )
    return {
        "format": 1,
        "name": "phone",
        "device": "cpu-torch",
        "machine": {"processor": "arm", "system": "Android", "torch": "2.15"},
        "task": {"classes": 10, "in_chans": 1, "height": 8, "width": 8},
        "batch": 1,
        "threads": 1,
        "entries": entries,
    }


def job(device: str, **changes: Any) -> dict[str, Any]:
    return {
        "teacher": {"kind": "timm", "name": "resnet18"},
        "data": {"kind": "digits"},
        "budget": {"latency_ms": 1.0, "device": device},
        "search": {"space": "resnet_cifar"},
        **changes,
    }


def test_a_profile_is_kept_and_a_budget_may_name_it(client: TestClient, profile: dict[str, Any]) -> None:
    made = client.post("/v1/profiles", params={"name": "my phone"}, json=profile)
    assert (made.status_code, made.json()["status"]) == (202, "checking"), made.text
    early = client.post("/v1/jobs", json=job(made.json()["id"]))
    assert (early.status_code, early.json()["code"], early.headers["retry-after"]) == (409, "not_ready", "2")
    found = finish(client, made.headers["location"])
    assert (found["name"], found["status"], found["error"]) == ("my phone", "ready", None)
    assert found["spaces"] == {"resnet_cifar": 20}
    assert client.get(f"/v1/profiles/{found['id']}").json() == found
    assert found in client.get("/v1/profiles").json()["data"]
    queued = client.post("/v1/jobs", json=job(found["id"]))
    assert queued.status_code == 202, queued.text
    assert client.post(f"/v1/jobs/{queued.json()['id']}:cancel").status_code == 202
    # `auto` takes the spaces the profile has.
    queued = client.post("/v1/jobs", json=job(found["id"], search={}))
    assert queued.status_code == 202, queued.text
    client.post(f"/v1/jobs/{queued.json()['id']}:cancel")


def test_predictors_are_fitted_once_and_outside_the_requests(
    client: TestClient, profile: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_fit(*arguments: Any) -> Any:
        raise AssertionError("fitted inside a request")

    monkeypatch.setattr(profile_module, "fit", no_fit)
    made = client.post("/v1/profiles", json=profile)
    assert finish(client, made.headers["location"])["status"] == "ready"  # in a process of its own
    queued = client.post("/v1/jobs", json=job(made.json()["id"]))
    assert queued.status_code == 202, queued.text
    with client.app.state.services.sessions() as session:  # type: ignore[attr-defined]
        known = register.ready_profile(session, made.json()["id"], field="budget.device")
        row = session.get_one(ProfileRow, made.json()["id"])
        assert row.predictors is not None
    (predictor,) = known.predictors(TASK, 1).values()
    monkeypatch.undo()
    again = profile_module.Profile.model_validate(profile).predictors(TASK, 1)
    assert predictor == again["resnet_cifar"]


def test_a_key_names_one_profile(client: TestClient, refused: Refused, profile: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": "p"}
    first, again = (client.post("/v1/profiles", json=profile, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    expected = {"status": 422, "code": "invalid_request", "field": "Idempotency-Key", "part": "another request"}
    refused("POST", "/v1/profiles", **expected, json={**profile, "name": "tablet"}, headers=headers)


def test_nonsense_is_refused_by_entry_and_nothing_is_kept(refused: Refused, profile: dict[str, Any]) -> None:
    def spoilt(change: Any) -> dict[str, Any]:
        body = copy.deepcopy(profile)
        change(body)
        return body

    cases: list[tuple[Any, str, str, str]] = [
        (lambda b: b["entries"][3].update(latency_ms=-1), "invalid_request", "entries.3.latency_ms", "greater than 0"),
        (lambda b: b["entries"][2].update(space="resnet"), "invalid_request", "entries.2", "is"),
        (lambda b: b["entries"][0]["architecture"].update(depth1=99), "invalid_request",
         "entries.0.architecture.depth1", "is not in"),
        (lambda b: b.update(entries=b["entries"][:7]), "invalid_request", "entries", "at least 8"),
        (lambda b: b.update(colour=1), "invalid_request", "profile", "unknown field 'colour'"),
        (lambda b: b.pop("machine"), "invalid_request", "machine", "required"),
    ]  # fmt: skip
    for change, code, field, part in cases:
        body = spoilt(change)
        answer = refused.client.post("/v1/profiles", json=body)
        assert answer.status_code == 422, (field, answer.text)
        assert answer.json()["code"] == code
        assert answer.json()["field"].startswith(field), answer.json()
        assert part in answer.json()["detail"], answer.json()
    refused("POST", "/v1/profiles", status=422, code="invalid_request", field=None, part="", content=b"[1, 2]",
            headers={"Content-Type": "application/json"})  # fmt: skip


def test_a_device_nobody_profiled_is_refused(refused: Refused) -> None:
    refused("POST", "/v1/jobs", status=422, code="unknown_name", field="budget.device", part="did you mean 'cpu-torch'",
            json=job("cpu-torhc"))  # fmt: skip
    refused("POST", "/v1/jobs", status=404, code="not_found", field="budget.device", part="there is no profile",
            json=job("prf_00000000000000000000"))  # fmt: skip
    refused("POST", "/v1/jobs", status=422, code="unknown_name", field="budget.device", part="unknown device",
            json=job("/etc/passwd.json"))  # fmt: skip


def test_a_profile_of_other_images_batches_or_spaces_is_refused(
    client: TestClient, refused: Refused, profile: dict[str, Any]
) -> None:
    id = finish(client, client.post("/v1/profiles", json=profile).headers["location"])["id"]
    refused("POST", "/v1/jobs", status=422, code="invalid_request", field="budget.device",
            part="has no measurements of vit", json=job(id, search={"space": "vit"}))  # fmt: skip
    batch = job(id)
    batch["budget"]["batch"] = 8
    refused("POST", "/v1/jobs", status=422, code="invalid_request", field="budget.batch", part="set budget.batch to 1",
            json=batch)  # fmt: skip
    larger = copy.deepcopy(profile)
    larger["task"] |= {"height": 16, "width": 16}
    id = finish(client, client.post("/v1/profiles", json=larger).headers["location"])["id"]
    refused("POST", "/v1/jobs", status=422, code="invalid_request", field="budget.device", part="height 16, width 16",
            json=job(id))  # fmt: skip


def test_devices_are_listed(client: TestClient) -> None:
    names = [device["name"] for device in client.get("/v1/devices").json()]
    assert {"cpu-torch", "cpu-onnxruntime", "cpu-onnxruntime-int8", "cuda-torch", "cuda-graph"} <= set(names)
