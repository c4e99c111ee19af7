from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Refused, request

pytestmark = pytest.mark.smoke

NOWHERE = "0" * 20
SMALL = {"data": "small", "search": {"batch_size": 1024}, "distill": {"batch_size": 32}}


@pytest.mark.parametrize(
    ("changes", "field", "code", "part"),
    [
        ({"search": {"space": "resnet_cifr"}}, "search.space", "unknown_name", "did you mean 'resnet_cifar'?"),
        ({"search": {"score": {"snipp": 1.0}}}, "search.score", "unknown_name", "did you mean 'snip'?"),
        ({"distill": {"method": "kdd"}}, "distill.method", "unknown_name", "did you mean 'kd'?"),
        ({"distill": {"losses": {"dkd": {"bta": 2}}}}, "distill.losses.dkd.bta", "invalid_request", "settings of dkd"),
        ({"distill": {"method": "mld"}}, "distill.method", "invalid_request", "not defined for classification tasks"),
        ({"distill": {"schedule": "steps"}}, "distill", "invalid_request", "milestones"),
        ({"distill": {"micro_batch": 48, "batch_size": 64}}, "distill", "invalid_request", "micro_batch"),
        ({"distill": {"recipe": "cifr"}}, "distill.recipe", "invalid_request", "'short', 'cifar' or 'imagenet'"),
        ({"budget": {"params": 10}}, "budget", "impossible_budget", "nearest possible budget has"),
        ({"budget": {"macs": 1}}, "budget", "impossible_budget", "nearest possible budget has"),
        ({"budget": {}}, None, "invalid_request", "set at least one limit"),
        ({"budget": {"params": 0}}, "budget.params", "invalid_request", "greater than or equal to 1"),
        ({"budget": {"params_ratio": 1.5}}, "budget.params_ratio", "invalid_request", "less than or equal to 1"),
        (SMALL, "search.batch_size", "invalid_request", "more than the 104 training examples"),
        ({"distill": {"batch_size": 8192}}, "distill.batch_size", "invalid_request", "8192 is more than"),
        ({"search": {"candiates": 3}}, "search", "invalid_request", "did you mean 'candidates'?"),
        ({"search": {"trade": "macs", "halving": 2}}, "search.halving", "invalid_request", "leave out search.halving"),
        ({"search": {"trade": "macs", "sampler": "cmaes"}}, "search.sampler", "invalid_request", "tpe or nsga2"),
        ({"budget": {"params": 10**6, "device": "cpu"}}, "budget.device", "unknown_name", "cpu-torch"),
        ({"distil": {}}, None, "invalid_request", "did you mean 'distill'?"),
        ({"budget": {"params": 10**5, "flops": 3}}, "budget", "invalid_request", "unknown field 'flops'"),
        ({"search": {"score": {"hm": float("nan")}}}, "search.score.hm", "invalid_request", "finite"),
        ({"search": {"score": {}}}, "search.score", "invalid_request", "at least 1"),
        ({"data": {"kind": "npz", "path": "/etc/passwd"}}, "data.kind", "invalid_request", "upload the data"),
        ({"data": {"kind": "image_folder", "path": "/"}}, "data.kind", "invalid_request", "upload the data"),
        ({"teacher": {"kind": "local", "path": "/"}}, "teacher.kind", "invalid_request", "register the teacher"),
        ({"teacher": {"kind": "timm", "name": "local-dir:/etc"}}, "teacher.name", "invalid_request", "local-dir:"),
        ({"teacher": {"kind": "teacher", "id": f"tch_{NOWHERE}"}}, "teacher.id", "not_found", "no teacher"),
        ({"teacher": {"kind": "teacher", "id": "../x"}}, "teacher.id", "invalid_request", "match pattern"),
        ({"data": {"kind": "dataset", "id": f"ds_{NOWHERE}"}}, "data.id", "not_found", "no data set"),
        ({"data": {"kind": "digits", "path": "x"}}, "data", "invalid_request", "unknown field 'path'"),
        ({"data": {"kind": "video"}}, "data", "invalid_request", "video"),
        ({"kind": "distill"}, None, "invalid_request", "needs a student"),
        ({"kind": "train"}, "kind", "invalid_request", "'search'"),
        (
            {"kind": "distill", "student": {"space": "resnet_cifar", "architecture": {"depth1": 99}}},
            "student.architecture",
            "invalid_request",
            "is missing",
        ),
        ({"name": "x" * 201}, "name", "invalid_request", "at most 200"),
        ({"search": {"seed": 2**31}}, "search.seed", "invalid_request", "less than"),
        ({"search": {"candidates": 10**400}}, "search.candidates", "invalid_request", ""),
    ],
)
def test_a_request_that_cannot_work_is_refused_before_anything_is_queued(
    refused: Refused, dataset: str, changes: dict[str, Any], field: str | None, code: str, part: str
) -> None:
    if changes.get("data") == "small":
        changes = {**changes, "data": {"kind": "dataset", "id": dataset}}
    content = json.dumps(request(**changes)).encode()
    status = 404 if code == "not_found" else 422
    headers = {"Content-Type": "application/json"}
    refused("POST", "/v1/jobs", status=status, code=code, field=field, part=part, content=content, headers=headers)


@pytest.mark.parametrize("room", ["jobs", "teachers", "datasets", "uploads", "artifacts"])
@pytest.mark.parametrize("id", [NOWHERE, "..", "%2e%2e", "%00x".replace("%00", "%01"), "job_" + "9" * 300, "%ff%fe"])
def test_ids_nobody_was_given_are_not_found(refused: Refused, room: str, id: str) -> None:
    if id == "..":
        # The path is somewhere else then, and nothing is there either.
        refused("GET", f"/v1/{room}/x/../../nowhere", status=404, code="not_found", field=None, part="Not Found")
        return
    refused("GET", f"/v1/{room}/{id}", status=404, code="not_found", field=None, part="there is no")


@pytest.mark.parametrize("path", ["events", "candidates", "artifacts"])
def test_parts_of_a_job_nobody_asked_for_are_not_found(refused: Refused, path: str) -> None:
    found = {"status": 404, "code": "not_found", "field": None, "part": "there is no job"}
    refused("GET", f"/v1/jobs/job_{NOWHERE}/{path}", **found)
    refused("GET", f"/v1/jobs/..%2f..%2f/{path}", **{**found, "part": "Not Found"})
    refused("POST", f"/v1/jobs/job_{NOWHERE}:cancel", **found)


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-1"}, {"If-None-Match": "*"}])
def test_content_of_no_artifact_is_not_found(refused: Refused, headers: dict[str, str]) -> None:
    for id in (f"art_{NOWHERE}", "%2e%2e", "..%2f..%2fetc%2fpasswd"):
        part = "Not Found" if "%2f" in id else "there is no artifact"
        refused(
            "GET", f"/v1/artifacts/{id}/content", status=404, code="not_found", field=None, part=part, headers=headers
        )


def test_a_job_that_has_not_finished_has_no_artifacts_yet(client: TestClient, refused: Refused) -> None:
    job = client.post("/v1/jobs", json=request()).json()
    part = f"job {job['id']} is queued, it has no artifacts yet"
    refused("GET", f"/v1/jobs/{job['id']}/artifacts", status=409, code="conflict", field=None, part=part)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("/v1/jobs?limit=0", "query.limit"),
        ("/v1/jobs?limit=99999999999999999999", "query.limit"),
        ("/v1/jobs?limit=many", "query.limit"),
        ("/v1/jobs?status=finished", "query.status"),
        ("/v1/jobs?kind=train", "query.kind"),
        ("/v1/jobs/{job}/candidates?offset=99999999999999999999", "query.offset"),
        ("/v1/jobs/{job}/candidates?offset=-1", "query.offset"),
        ("/v1/jobs/{job}/events?after=99999999999999999999", "query.after"),
        ("/v1/spaces/resnet_cifar?in_chans=999999999999", "query.in_chans"),
        ("/v1/spaces/resnet_cifar?classes=-1", "query.classes"),
        ("/v1/spaces?image_size=100000", "query.image_size"),
    ],
)
def test_numbers_beyond_reason_are_refused(client: TestClient, refused: Refused, query: str, field: str) -> None:
    path = query.format(job=client.post("/v1/jobs", json=request()).json()["id"])
    refused("GET", path, status=422, code="invalid_request", field=field, part="Input should be")


def test_a_page_after_a_row_that_does_not_exist_is_not_found(refused: Refused) -> None:
    refused("GET", "/v1/jobs?after=job_1", status=404, code="not_found", field="after", part="no job 'job_1'")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff\xfe",
        b'{"kind": ',
        b"[" * 100_000,
        b'{"x":' * 100_000,
        b'{"budget":{"params":' + b"9" * 5000 + b"}}",
    ],
)
def test_a_body_that_is_no_json_is_malformed(refused: Refused, content: bytes) -> None:
    expected = {"status": 400, "code": "malformed_body", "field": None, "part": "body"}
    for path in ("/v1/jobs", "/v1/teachers", "/v1/datasets", "/v1/uploads"):
        refused("POST", path, **expected, content=content, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("content", [b"null", b"[]", b'"job"', b"3"])
def test_a_body_that_is_no_object_is_refused(refused: Refused, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    expected = {"status": 422, "code": "invalid_request", "field": None, "part": ""}
    refused("POST", "/v1/jobs", **expected, content=content, headers=headers)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_body_of_another_type_is_refused(refused: Refused, kind: str) -> None:
    expected = {"status": 415, "code": "unsupported_media_type", "field": None, "part": "application/json"}
    refused("POST", "/v1/jobs", **expected, content=json.dumps(request()), headers={"Content-Type": kind})


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/uploads", "/v1/teachers"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_too_large_for_json_is_refused_announced_or_not(refused: Refused, path: str, announced: bool) -> None:
    content = b" " * (2**20 + 1)
    expected = {"status": 413, "code": "too_large", "field": None, "part": ""}
    body = content if announced else iter([content])
    refused("POST", path, **expected, content=body, headers={"Content-Type": "application/json"})


def test_a_lone_surrogate_is_no_name(refused: Refused) -> None:
    content = json.dumps(request(name="SURROGATE")).replace("SURROGATE", "\\ud800")
    expected = {"status": 422, "code": "invalid_request", "field": "name", "part": "string"}
    refused("POST", "/v1/jobs", **expected, content=content, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[", "http://localhost.evil.example"])
def test_pages_from_elsewhere_may_not_submit(refused: Refused, origin: str) -> None:
    expected = {"status": 403, "code": "foreign_origin", "field": None, "part": origin}
    refused("POST", "/v1/jobs", **expected, json=request(), headers={"Origin": origin})


def test_pages_of_this_very_server_may(client: TestClient) -> None:
    assert client.post("/v1/jobs", json=request(), headers={"Origin": "http://localhost"}).status_code == 202


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:80", "", "localhost:80:80", "["]
)
def test_other_names_for_this_machine_are_refused(refused: Refused, host: str) -> None:
    expected = {"status": 400, "code": "foreign_host", "field": None, "part": "ARCHSEARCH_ALLOWED_HOSTS"}
    refused("GET", "/v1/jobs", **expected, headers={"Host": host})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8321", "127.0.0.1:8321", "[::1]:8321", "[::1]"])
def test_its_own_names_are_not(client: TestClient, host: str) -> None:
    assert client.get("/v1/jobs", headers={"Host": host}).status_code == 200


def test_what_does_not_exist_and_what_is_not_done_there_are_problems_too(refused: Refused) -> None:
    refused("GET", "/v1/nowhere", status=404, code="not_found", field=None, part="Not Found")
    expected = {"status": 405, "code": "method_not_allowed", "field": None, "part": "Method Not Allowed"}
    refused("PUT", "/v1/jobs", **expected)


def test_a_job_that_waits_is_cancelled_at_once_and_only_once(client: TestClient, refused: Refused) -> None:
    job = client.post("/v1/jobs", json=request()).json()
    assert job["status"] == "queued"
    cancelled = client.post(f"/v1/jobs/{job['id']}:cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert [event["type"] for event in client.get(f"/v1/jobs/{job['id']}/events").json()] == ["queued", "done"]
    path, part = f"/v1/jobs/{job['id']}:cancel", "has already cancelled"
    refused("POST", path, status=409, code="conflict", field=None, part=part)


def test_a_job_that_ended_badly_is_queued_again_and_its_events_go_on(client: TestClient, refused: Refused) -> None:
    job = client.post("/v1/jobs", json=request()).json()
    path = f"/v1/jobs/{job['id']}"
    expected = {"status": 409, "code": "conflict", "field": None}
    refused("POST", f"{path}:retry", **expected, part="is queued; one that failed or was cancelled can be retried")
    refused("POST", f"/v1/jobs/job_{NOWHERE}:retry", status=404, code="not_found", field=None, part="no job")
    client.post(f"{path}:cancel")
    # Three times, so that the starts of its workflow are counted and not guessed.
    for _ in range(3):
        again = client.post(f"{path}:retry")
        assert (again.status_code, again.json()["status"]) == (202, "queued")
        assert (again.json()["error"], again.json()["finished_at"]) == (None, None)
        client.post(f"{path}:cancel")
    events = [event["type"] for event in client.get(f"{path}/events").json()]
    assert events == ["queued", "done", *["retried", "done"] * 3]
    with client.stream("GET", f"{path}/events", headers={"Accept": "text/event-stream"}) as stream:
        told = [line for line in stream.iter_lines() if line.startswith("event: ")]
    assert [line.removeprefix("event: ") for line in told] == events


def test_a_retry_whose_answer_was_lost_is_asked_for_again_and_made_once(client: TestClient, refused: Refused) -> None:
    path = f"/v1/jobs/{client.post('/v1/jobs', json=request()).json()['id']}"
    client.post(f"{path}:cancel")
    answers = [client.post(f"{path}:retry", headers={"Idempotency-Key": "once"}) for _ in range(3)]
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(202, "queued")] * 3
    assert [event["type"] for event in client.get(f"{path}/events").json()] == ["queued", "done", "retried"]
    expected = {"status": 409, "code": "conflict", "field": None, "part": "is queued"}
    refused("POST", f"{path}:retry", **expected, headers={"Idempotency-Key": "another"})


def test_a_job_cancelled_and_retried_in_its_queue_is_in_there_once(client: TestClient) -> None:
    id = client.post("/v1/jobs", json=request()).json()["id"]
    for action in ("cancel", "retry", "cancel", "retry"):
        assert client.post(f"/v1/jobs/{id}:{action}").status_code == 202
    services = client.app.state.services  # type: ignore[attr-defined]
    with services.sessions() as session:
        assert services.engine.owners(session, id) == {id: None}
    client.post(f"/v1/jobs/{id}:cancel")


def test_a_stream_goes_on_past_the_end_of_an_earlier_attempt(client: TestClient) -> None:
    job = client.post("/v1/jobs", json=request()).json()
    path = f"/v1/jobs/{job['id']}"
    client.post(f"{path}:cancel")
    client.post(f"{path}:retry")
    ended = threading.Timer(1.0, lambda: client.post(f"{path}:cancel"))
    ended.start()
    with client.stream("GET", f"{path}/events", headers={"Accept": "text/event-stream"}) as stream:
        told = [line for line in stream.iter_lines() if line.startswith("event: ")]
    ended.join()
    assert told == ["event: queued", "event: done", "event: retried", "event: done"]
