from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from archsearch import storage
from tests.api.conftest import Refused, Send, finish, npz, request, small_arrays

SOURCE = {"kind": "timm", "name": "resnet18"}


def test_what_is_needed_is_refused_and_what_is_not_is_gone_at_once(client: TestClient, send: Send) -> None:
    arrays = {**small_arrays(), "class_names": ["north", "east", "south", "west"]}
    upload = send(npz(**arrays))
    data = client.post("/v1/datasets", json={"upload": upload, "format": "npz"}).json()["id"]
    finish(client, f"/v1/datasets/{data}")
    teacher = client.post("/v1/teachers", json={"source": SOURCE}).json()["id"]
    wanted = request(
        data={"kind": "dataset", "id": data}, teacher={"kind": "teacher", "id": teacher}, distill={"batch_size": 32}
    )
    job = client.post("/v1/jobs", json=wanted).json()["id"]
    for path, part in (
        (f"/v1/jobs/{job}", f"job {job} is queued; POST /v1/jobs/{job}:cancel"),
        (f"/v1/teachers/{teacher}", f"job {job} is queued and needs teacher {teacher}"),
        (f"/v1/datasets/{data}", f"job {job} is queued and needs data set {data}"),
    ):
        answer = client.delete(path)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict"), answer.text
        assert part in answer.json()["detail"]
        assert client.get(path).status_code == 200
    client.post(f"/v1/jobs/{job}:cancel")
    files = client.app.state.services.files  # type: ignore[attr-defined]
    assert files.dataset(data).is_dir()
    for path in (f"/v1/jobs/{job}", f"/v1/teachers/{teacher}", f"/v1/datasets/{data}", f"/v1/uploads/{upload}"):
        answer = client.delete(path)
        assert (answer.status_code, answer.content) == (204, b""), answer.text
        assert client.get(path).status_code == client.delete(path).status_code == 404
    assert not files.dataset(data).exists()
    assert not files.upload(upload).parent.exists()
    # The same content is read anew.
    again = client.post("/v1/datasets", json={"upload": send(npz(**arrays)), "format": "npz"})
    assert again.status_code == 202
    client.delete(again.headers["location"])


def test_a_data_set_that_is_still_read_may_be_deleted(client: TestClient, send: Send) -> None:
    body = {"upload": send(npz(**small_arrays(80))), "format": "npz"}
    path = client.post("/v1/datasets", json=body).headers["location"]
    upload = client.delete(f"/v1/uploads/{body['upload']}")
    assert (upload.status_code, "which is being read" in upload.json()["detail"]) == (409, True)
    assert client.delete(path).status_code == 204
    assert finish(client, path)["code"] == "not_found"
    assert client.delete(f"/v1/uploads/{body['upload']}").status_code == 204


@pytest.mark.parametrize("room", ["jobs", "teachers", "datasets", "uploads", "profiles"])
def test_there_is_nothing_to_delete(refused: Refused, room: str) -> None:
    refused("DELETE", f"/v1/{room}/x", status=404, code="not_found", field=None, part="there is no")


def test_storage_tells_what_is_kept_and_what_may_go(client: TestClient, send: Send) -> None:
    before: dict[str, Any] = client.get("/v1/storage").json()
    send(b"x" * 50_000)
    after: dict[str, Any] = client.get("/v1/storage").json()
    assert after["kept"]["uploads"]["count"] == before["kept"]["uploads"]["count"] + 1
    assert after["kept"]["uploads"]["bytes"] >= before["kept"]["uploads"]["bytes"] + 50_000
    assert after["free_bytes"] > 0
    caches = {"evidence", "latencies", "precisions", "views", "tokens", "images"}
    assert {"uploads", "datasets", "jobs", "database", *caches} == after["kept"].keys()


def test_many_who_ask_what_is_kept_hold_nobody_up(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    walk, walks, begun, go_on = storage.waste, list[Any](), threading.Event(), threading.Event()

    def counted(*args: Any) -> Any:
        walks.append(args)
        begun.set()
        assert go_on.wait(30)
        return walk(*args)

    monkeypatch.setattr(storage, "waste", counted)
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(client.get, "/v1/storage") for _ in range(12)]
        assert begun.wait(30)
        assert client.get("/v1/jobs").status_code == 200  # more of them than there are turns for reading
        go_on.set()
        told = [each.result(30) for each in asked]
    assert {answer.status_code for answer in told} == {200}
    assert len(walks) < 12
