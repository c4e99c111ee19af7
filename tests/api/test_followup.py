"""Jobs that distil a candidate another job scored, and budgets that are shares of a teacher."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from archsearch import intake
from archsearch.domains.images import DIGITS
from archsearch.errors import NotFound
from archsearch.request import parse_request
from archsearch.spaces import spaces
from archsearch.store.models import Candidate, Job, TeacherRow
from tests.api.conftest import Json, Refused, request

SPACE = spaces.get("resnet_cifar")


@pytest.fixture
def scored(client: TestClient) -> str:
    """A search on digits by a registered teacher, with one candidate scored and one that failed."""
    teacher = client.post("/v1/teachers", json={"source": {"kind": "timm", "name": "resnet18"}}).json()["id"]
    body = request(kind="search", teacher={"kind": "teacher", "id": teacher})
    id = str(client.post("/v1/jobs", json=body).json()["id"])
    cost = SPACE.cost(SPACE.smallest(DIGITS), DIGITS)
    with client.app.state.services.sessions.begin() as session:  # type: ignore[attr-defined]
        for number, state in enumerate(("scored", "failed")):
            session.add(
                Candidate(
                    job_id=id, number=number, space=SPACE.name, architecture=SPACE.smallest(DIGITS),
                    architecture_key=str(number), params=cost.params, macs=cost.macs, state=state, proxies={}, votes={},
                    score=1.0 if state == "scored" else None, reason="it burst", seconds=0.0, rung=0, rungs=[],
                    attempt=1,
                )
            )  # fmt: skip
        session.get_one(TeacherRow, teacher).sha256 = "a" * 64
    return id


def follow(job: str, number: int = 0, **changes: Any) -> Json:
    return {"kind": "distill", "student": {"job": job, "candidate": number}, **changes}


def test_teacher_and_data_are_the_jobs_where_they_are_left_out(client: TestClient, scored: str) -> None:
    source = client.get(f"/v1/jobs/{scored}").json()["request"]
    for part in ({}, {"teacher": {"kind": "job"}}, {"data": source["data"]}, {"teacher": source["teacher"]}):
        answer = client.post("/v1/jobs", json=follow(scored, **part))
        assert answer.status_code == 202, answer.text
        kept = answer.json()["request"]
        # What is kept needs no other row to be read.
        assert (kept["teacher"], kept["data"]) == (source["teacher"], source["data"])
        assert kept["student"]["candidate"] == 0
    with client.app.state.services.sessions() as session:  # type: ignore[attr-defined]
        student = intake.resolve(session, parse_request(kept)).student
    assert student is not None
    assert (student.space, student.architecture) == (SPACE.name, SPACE.smallest(DIGITS))


def test_a_key_is_good_for_what_is_left_out_too(client: TestClient, scored: str) -> None:
    headers = {"Idempotency-Key": f"follow {scored}"}
    first, again = (client.post("/v1/jobs", json=follow(scored), headers=headers) for _ in range(2))
    assert (first.status_code, first.json()["id"]) == (202, again.json()["id"])


def test_the_same_teacher_is_the_same_whatever_names_it(client: TestClient, scored: str) -> None:
    """By its timm name, or registered once more; and a request kept before a field existed says the same without it."""
    again = client.post("/v1/teachers", json={"source": {"kind": "timm", "name": "resnet50"}}).json()["id"]
    with client.app.state.services.sessions.begin() as session:  # type: ignore[attr-defined]
        session.get_one(TeacherRow, again).sha256 = "a" * 64
        job = session.get_one(Job, scored)
        job.request = {**job.request, "data": {"kind": "digits"}, "teacher": {**job.request["teacher"]}}
        job.request["teacher"].pop("classes", None)
    for teacher in ({"kind": "timm", "name": "resnet18"}, {"kind": "teacher", "id": again}):
        answer = client.post("/v1/jobs", json=follow(scored, teacher=teacher))
        assert answer.status_code == 202, answer.text


def test_another_teacher_other_data_and_failed_candidates_are_refused(
    client: TestClient, scored: str, dataset: str, refused: Refused
) -> None:
    expected = {"status": 422, "code": "invalid_request"}
    teacher = {"kind": "timm", "name": "resnet34"}
    part = "scored for another teacher; leave it out, or name the one"
    refused("POST", "/v1/jobs", **expected, field="teacher", part=part, json=follow(scored, teacher=teacher))
    data = {"kind": "dataset", "id": dataset}
    part = "scored for another data; leave it out"
    refused("POST", "/v1/jobs", **expected, field="data", part=part, json=follow(scored, data=data))
    part = "candidate 1 has no score: it burst"
    refused("POST", "/v1/jobs", **expected, field="student.candidate", part=part, json=follow(scored, 1))
    expected = {"status": 404, "code": "not_found"}
    part = "has no candidate 7"
    refused("POST", "/v1/jobs", **expected, field="student.candidate", part=part, json=follow(scored, 7))
    part = "there is no job"
    refused("POST", "/v1/jobs", **expected, field="student.job", part=part, json=follow(f"job_{'0' * 20}"))
    part = "is for a student that names a job"
    refused("POST", "/v1/jobs", status=422, code="invalid_request", field=None, part=part,
            json=request(teacher={"kind": "job"}))  # fmt: skip


def test_a_share_of_a_teacher_counted_on_other_images_is_left_to_the_worker(
    client: TestClient, refused: Refused
) -> None:
    """Its multiply-accumulates on 8×8 images say nothing of those on 32×32."""
    teacher = client.post("/v1/teachers", json={"source": {"kind": "timm", "name": "resnet18"}}).json()["id"]
    cost = SPACE.cost(SPACE.smallest(DIGITS), DIGITS)
    with client.app.state.services.sessions.begin() as session:  # type: ignore[attr-defined]
        row = session.get_one(TeacherRow, teacher)
        counted = {"params": 10**7, "macs": cost.macs}
        row.status, row.facts = "ready", {**counted, "measured_on": {"in_chans": 3, "height": 4, "width": 4}}
    body = request(kind="search", teacher={"kind": "teacher", "id": teacher}, budget={"macs_ratio": 0.1})
    assert client.post("/v1/jobs", json=body).status_code == 202
    with client.app.state.services.sessions.begin() as session:  # type: ignore[attr-defined]
        measured_on = {"in_chans": 1, "height": 8, "width": 8}
        session.get_one(TeacherRow, teacher).facts = {**counted, "measured_on": measured_on}
    refused("POST", "/v1/jobs", status=422, code="impossible_budget", field="budget", part="macs", json=body)
    body["budget"] = {"params_ratio": 1e-6}
    refused("POST", "/v1/jobs", status=422, code="impossible_budget", field="budget", part="params", json=body)


def test_fp16_where_there_is_no_gpu_is_refused_at_once(refused: Refused) -> None:
    expected = {"status": 422, "code": "invalid_request", "part": "fp16 needs a GPU"}
    body = request(search={"precision": "fp16"}, device="cpu")
    refused("POST", "/v1/jobs", **expected, field="search.precision", json=body)
    for where in ({"device": "cpu"}, {"distill": {"device": "cpu"}}):
        body = {**request(), **where, "distill": {"precision": "fp16", **where.get("distill", {})}}
        refused("POST", "/v1/jobs", **expected, field="distill.precision", json=body)
    unknown = {"status": 422, "code": "invalid_request", "field": "device", "part": "such as cuda:1"}
    refused("POST", "/v1/jobs", **unknown, json=request(device="gpu0"))


def test_what_was_deleted_after_its_check_is_not_relied_on(client: TestClient) -> None:
    """Requests are checked before the transaction that queues them; what they name is asked for once more in it."""
    teacher = client.post("/v1/teachers", json={"source": {"kind": "timm", "name": "resnet18"}}).json()["id"]
    services = client.app.state.services  # type: ignore[attr-defined]
    wanted = parse_request(request(teacher={"kind": "teacher", "id": teacher}))
    with services.reading() as session:
        plan = intake.check(session, wanted)
    assert client.delete(f"/v1/teachers/{teacher}").status_code == 204
    with pytest.raises(NotFound, match="there is no teacher"), services.transaction() as session:
        intake.submit(session, services.engine, wanted, plan=plan)
