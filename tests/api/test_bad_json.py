"""JSON that is no text or no numbers, wherever a client may send some: refused with the field, never a failure."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import NO_FIELD, Refused, request

UPLOADED = {"kind": "upload", "upload": "up_" + "0" * 20, "architecture": "resnet18", "num_classes": 4}
PLACES: list[tuple[str, str, Any]] = [
    ("/v1/jobs", "name", lambda bad: request(name=bad)),
    ("/v1/jobs", "distill.losses.kd.beta", lambda bad: request(distill={"losses": {"kd": {"beta": bad}}})),
    ("/v1/jobs", "search.score.hm", lambda bad: request(search={"score": {"hm": bad}})),
    ("/v1/jobs", "student.architecture.depth", lambda bad: request(student={"architecture": {"depth": bad}})),
    ("/v1/teachers", "source.model_args.x", lambda bad: {"source": {**UPLOADED, "model_args": {"x": bad}}}),
    ("/v1/teachers", "source.mean.1", lambda bad: {"source": {**UPLOADED, "mean": [0.5, bad, 0.5]}}),
    ("/v1/teachers", "source.config.a.0.b", lambda bad: {"source": {**UPLOADED, "config": {"a": [{"b": bad}]}}}),
    ("/v1/uploads", "filename", lambda bad: {"filename": bad}),
    ("/v1/datasets", "name", lambda bad: {"upload": "up_" + "0" * 20, "format": "npz", "name": bad}),
    ("/v1/profiles", "entries.0.latency_ms", lambda bad: {"entries": [{"latency_ms": bad}]}),
]
BAD = {
    "half a surrogate pair": '"\\ud800"',
    "a NUL": '"a\\u0000b"',
    "an escape sequence": '"\\u001b[31m"',
    "no number": "NaN",
    "infinity": "-Infinity",
    "a number beyond all": "1e999",
    "an integer beyond all": "9" * 400,
    "a name given twice": '{"x": 1, "x": 2}',
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize(("path", "field", "body"), PLACES, ids=[f"{path} {field}" for path, field, _ in PLACES])
def test_it_is_refused_with_its_field(refused: Refused, path: str, field: str, body: Any, bad: str) -> None:
    content = json.dumps(body("BAD")).replace('"BAD"', bad)
    headers = {"Content-Type": "application/json"}
    refused("POST", path, status=422, code="invalid_request", field=field, part="", content=content, headers=headers)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(("depth", "status"), [(70, 422), (900, 422), (150_000, 400)])
def test_nesting_has_an_end(refused: Refused, opening: str, closing: str, depth: int, status: int) -> None:
    content = f'{{"source": {{"kind": "upload", "config": {opening * depth}1{closing * depth}}}}}'
    code = "invalid_request" if status == 422 else "malformed_body"
    headers = {"Content-Type": "application/json"}
    field = NO_FIELD if status == 422 else None
    refused(
        "POST", "/v1/teachers", status=status, code=code, field=field, part="nested", content=content, headers=headers
    )


def test_a_name_that_is_no_text_is_refused_where_it_stands(refused: Refused) -> None:
    content = json.dumps(request(distill={"losses": {"BAD": {}}})).replace("BAD", "\\udfff")
    expected = {"status": 422, "code": "invalid_request", "field": "distill.losses", "part": "surrogate"}
    refused("POST", "/v1/jobs", **expected, content=content, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/teachers", "/v1/datasets", "/v1/profiles"])
def test_a_number_in_a_query_or_a_text_with_control_characters_is_refused(refused: Refused, path: str) -> None:
    expected = {"status": 422, "code": "invalid_request", "field": "query.after", "part": "control characters"}
    refused("GET", f"{path}?after=%00", **expected)
    refused("GET", f"{path}?after=a%0Ab", **expected)
    refused("GET", f"{path}/a%00b", status=404, code="not_found", field=None, part="")


@pytest.mark.parametrize("key", [b"", b"x" * 201])
def test_a_key_that_is_none_is_refused(refused: Refused, key: bytes) -> None:
    headers = {b"Idempotency-Key": key}
    refused(
        "POST", "/v1/jobs", status=422, code="invalid_request", field="header.Idempotency-Key", part="",
        json=request(), headers=headers,
    )  # fmt: skip


def test_a_failure_has_its_id_in_header_and_body_too(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("/srv/data is not what it was at 0x7f31a0c4d2b0")

    monkeypatch.setattr("archsearch.store.queries.require", fail)
    answer = client.get("/v1/uploads/up_1")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "srv" not in answer.text


# What the patterns that clean a message take longest over, were they to look at all of it.
LONG = {"letters": "r", "spaces": " ", "steps": "a/", "addresses": "<a at 0x", "sources": "x.cpp:"}
LONG_PLACES: list[tuple[str, Any]] = [
    ("/v1/jobs", lambda bad: request(search={"space": bad})),
    ("/v1/jobs", lambda bad: request(distill={"method": bad})),
    ("/v1/jobs", lambda bad: request(search={"score": {bad: 1.0}})),
    ("/v1/jobs", lambda bad: {**request(), bad: 1}),
    ("/v1/teachers", lambda bad: {"source": {**UPLOADED, "architecture": bad}}),
]


@pytest.mark.parametrize("unit", LONG.values(), ids=LONG)
def test_long_names_are_refused_soon_and_in_few_words(client: TestClient, unit: str) -> None:
    started = time.monotonic()
    for path, body in LONG_PLACES:
        answer = client.post(path, json=body((unit * 300_000)[:300_000]))
        assert (answer.status_code, len(answer.json()["detail"]) < 10_000) == (422, True), path
    assert client.get(f"/v1/jobs/{(unit * 8000)[:15_000]}").status_code == 404
    # Minutes, where a pattern is quadratic; a second, where it is not.
    assert time.monotonic() - started < 20
