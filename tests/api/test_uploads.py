from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import PART_BYTES, Refused


@pytest.fixture
def upload(client: TestClient) -> str:
    """The path of an open upload."""
    answer = client.post("/v1/uploads", json={"filename": "../../etc/passwd"}).json()
    assert (answer["status"], answer["max_part_bytes"]) == ("open", PART_BYTES)
    return f"/v1/uploads/{answer['id']}"


def put(client: TestClient, upload: str, number: int, content: bytes) -> int:
    return client.put(f"{upload}/parts/{number}", content=content).status_code


def test_parts_arrive_in_any_order_and_one_sent_again_replaces_the_first(client: TestClient, upload: str) -> None:
    for number, content in ((2, b"world"), (1, b"a much longer first try"), (1, b"hello ")):
        assert put(client, upload, number, content) == 204
    sha256 = hashlib.sha256(b"hello world").hexdigest()
    answer = client.post(f"{upload}:complete", json={"sha256": sha256.upper()})
    assert answer.status_code == 200, answer.text
    assert {name: answer.json()[name] for name in ("status", "size_bytes", "sha256")} == {
        "status": "complete",
        "size_bytes": 11,
        "sha256": sha256,
    }
    assert client.get(upload).json() == answer.json()


def test_a_part_too_large_is_refused_and_leaves_nothing(client: TestClient, upload: str, refused: Refused) -> None:
    expected = {"status": 413, "code": "too_large", "field": None, "part": "part 1 has more than 100,000 bytes"}
    whole = b"x" * (PART_BYTES + 1)
    refused("PUT", f"{upload}/parts/1", **expected, content=whole)
    refused("PUT", f"{upload}/parts/1", **expected, content=iter([whole[:60_000], whole[60_000:]]))
    expected = {"status": 409, "code": "conflict", "field": None, "part": "no part has arrived"}
    refused("POST", f"{upload}:complete", **expected, json={})
    assert put(client, upload, 1, whole[1:]) == 204


def test_all_parts_together_have_a_limit(client: TestClient, upload: str, refused: Refused) -> None:
    for number in range(1, 11):
        assert put(client, upload, number, b"x" * PART_BYTES) == 204
    expected = {"status": 413, "code": "too_large", "field": None, "part": "part 11 has more than 0 bytes"}
    refused("PUT", f"{upload}/parts/11", **expected, content=b"x")
    # A part that is sent again does not count twice.
    assert put(client, upload, 10, b"y" * PART_BYTES) == 204


def test_an_upload_that_says_itself_that_it_is_too_large_is_not_opened(refused: Refused) -> None:
    for size in (10 * PART_BYTES + 1, 10**30):
        expected = {"status": 413, "code": "too_large", "field": "size_bytes", "part": "this server takes"}
        refused("POST", "/v1/uploads", **expected, json={"size_bytes": size})


def test_missing_parts_are_named(client: TestClient, upload: str, refused: Refused) -> None:
    for number in (1, 3, 6):
        assert put(client, upload, number, b"x") == 204
    expected = {"status": 409, "code": "conflict", "field": None, "part": "parts are missing: 2, 4, 5"}
    refused("POST", f"{upload}:complete", **expected, json={})


def test_another_sha256_is_refused_and_the_upload_stays_open(client: TestClient, upload: str, refused: Refused) -> None:
    put(client, upload, 1, b"hello")
    expected = {"status": 422, "code": "invalid_request", "field": "sha256", "part": "not the one given"}
    refused("POST", f"{upload}:complete", **expected, json={"sha256": "0" * 64})
    expected["part"] = "match pattern"
    refused("POST", f"{upload}:complete", **expected, json={"sha256": "abc"})
    assert client.post(f"{upload}:complete", json={}).json()["status"] == "complete"


def test_a_complete_upload_takes_no_more(client: TestClient, upload: str, refused: Refused) -> None:
    put(client, upload, 1, b"hello")
    client.post(f"{upload}:complete", json={})
    expected: dict[str, Any] = {"status": 409, "code": "conflict", "field": None, "part": "complete"}
    refused("PUT", f"{upload}/parts/2", **expected, content=b"x")
    refused("PUT", f"{upload}/parts/1", **expected, content=b"other")


def test_all_that_complete_an_upload_at_once_are_told_the_same(client: TestClient, upload: str) -> None:
    for number in range(1, 9):
        put(client, upload, number, bytes([number]) * PART_BYTES)
    answers: list[tuple[int, str]] = []

    def complete() -> None:
        answer = client.post(f"{upload}:complete", json={})
        answers.append((answer.status_code, answer.text))

    threads = [threading.Thread(target=complete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(200, client.get(upload).text)] * 6
    assert client.get(upload).json()["size_bytes"] == 8 * PART_BYTES


def test_a_declared_size_holds(client: TestClient, refused: Refused) -> None:
    upload = f"/v1/uploads/{client.post('/v1/uploads', json={'size_bytes': 10}).json()['id']}"
    put(client, upload, 1, b"123456")
    expected = {"code": "too_large", "field": None, "part": "part 2 has more than 4 bytes"}
    refused("PUT", f"{upload}/parts/2", status=413, **expected, content=b"12345")
    expected = {"code": "conflict", "field": "size_bytes", "part": "6 bytes have arrived and 10 were declared"}
    refused("POST", f"{upload}:complete", status=409, **expected, json={})
    put(client, upload, 2, b"7890")
    assert client.post(f"{upload}:complete", json={}).status_code == 200


def test_content_that_is_here_already_need_not_be_sent(client: TestClient, upload: str) -> None:
    put(client, upload, 1, b"sent once")
    sha256 = hashlib.sha256(b"sent once").hexdigest()
    body = {"filename": "again.bin", "size_bytes": 9, "sha256": sha256}
    assert client.post("/v1/uploads", json=body).status_code == 201  # not complete: nothing is here yet
    complete = client.post(f"{upload}:complete", json={}).json()
    answer = client.post("/v1/uploads", json=body)
    assert (answer.status_code, answer.json()) == (200, complete)
    assert client.post("/v1/uploads", json={**body, "size_bytes": 8}).status_code == 201


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "line\nbreak"])
def test_a_name_that_is_no_text_is_refused(refused: Refused, name: str) -> None:
    content = json.dumps({"filename": name}).encode()
    answer = refused.client.post("/v1/uploads", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["field"]) == (422, "filename"), answer.text


@pytest.mark.parametrize("number", ["0", "-1", "100001", "9" * 30, "one", "1.5"])
def test_parts_are_numbered_from_one(upload: str, refused: Refused, number: str) -> None:
    expected = {"status": 422, "code": "invalid_request", "field": "path.number", "part": "Input should be"}
    refused("PUT", f"{upload}/parts/{number}", **expected, content=b"x")


def test_no_upload_no_parts(refused: Refused) -> None:
    expected = {"status": 404, "code": "not_found", "field": None, "part": "there is no upload"}
    for id in ("up_" + "0" * 20, "%2e%2e", "job_1"):
        refused("PUT", f"/v1/uploads/{id}/parts/1", **expected, content=b"x")
        refused("POST", f"/v1/uploads/{id}:complete", **expected, json={})


def test_an_upload_that_is_not_complete_is_of_no_use_yet(upload: str, refused: Refused) -> None:
    id = upload.rpartition("/")[2]
    expected = {"status": 409, "code": "conflict", "part": "is not complete"}
    refused("POST", "/v1/datasets", **expected, field="upload", json={"upload": id, "format": "npz"})
    source = {"kind": "upload", "upload": id, "architecture": "resnet18", "num_classes": 4}
    refused("POST", "/v1/teachers", **expected, field="source.upload", json={"source": source})
