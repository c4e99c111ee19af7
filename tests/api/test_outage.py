"""A database that goes away under a running API: 503 with Retry-After everywhere, and all well again by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from api import deps
from api.main import create_app
from archsearch.settings import Settings
from tests.api.conftest import finish, npz, request, small_arrays
from tests.postgres_server import PostgresServer, postgres_server
from tests.service.server import wait
from tests.small_disk import full

NOWHERE = "0" * 20
READING = [
    "/readyz", "/v1/jobs", f"/v1/jobs/job_{NOWHERE}", f"/v1/jobs/job_{NOWHERE}/events",
    f"/v1/jobs/job_{NOWHERE}/candidates", f"/v1/jobs/job_{NOWHERE}/pareto", f"/v1/jobs/job_{NOWHERE}/artifacts",
    f"/v1/artifacts/art_{NOWHERE}", f"/v1/artifacts/art_{NOWHERE}/content", "/v1/teachers", "/v1/datasets",
    "/v1/profiles", f"/v1/uploads/up_{NOWHERE}",
]  # fmt: skip
WRITING: list[tuple[str, str, Any]] = [
    ("POST", "/v1/jobs", request()),
    ("POST", f"/v1/jobs/job_{NOWHERE}:cancel", None),
    ("POST", "/v1/teachers", {"source": {"kind": "timm", "name": "resnet18"}}),
    ("POST", "/v1/datasets", {"upload": f"up_{NOWHERE}", "format": "npz"}),
    ("POST", "/v1/uploads", {}),
    ("PUT", f"/v1/uploads/up_{NOWHERE}/parts/1", None),
    ("POST", f"/v1/uploads/up_{NOWHERE}:complete", {}),
]


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


def refused(client: TestClient, method: str, path: str, body: Any = None) -> None:
    answer = client.request(method, path, json=body)
    assert answer.status_code == 503, (method, path, answer.text)
    assert int(answer.headers["retry-after"]) > 0
    problem = answer.json()
    assert (problem["code"], problem["retryable"]) == ("unavailable", True)
    assert not {"sql", "/tmp", "psycopg", "socket"} & set(problem["detail"].lower().split())


def test_routes_say_503_while_postgresql_is_away_and_work_again_when_it_is_back(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres.url)
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        assert client.get("/v1/jobs").status_code == 200
        postgres.stop("immediate")
        for path in READING:
            refused(client, "GET", path)
        for method, path, body in WRITING:
            refused(client, method, path, body)
        assert client.get("/healthz").status_code == 200
        postgres.start()
        assert client.get("/v1/jobs").status_code == 200
        assert client.get("/readyz").json()["status"] == "no worker"
        assert client.post("/v1/jobs", json=request()).status_code == 202
        # Connections that were open when it went down, and are used again.
        postgres.stop("fast")
        postgres.start()
        assert [client.get(path).status_code for path in ("/v1/jobs", "/v1/teachers")] == [200, 200]


def test_a_file_somebody_else_writes_to_for_long_is_503_for_writers_and_nothing_for_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deps, "LOCK_PATIENCE_S", 0.2)
    monkeypatch.setattr("api.main.LOCK_PATIENCE_S", 0.2)
    settings = Settings(data_dir=tmp_path, database_url=None)
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        other = sqlite3.connect(tmp_path / "archsearch.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused(client, "POST", "/v1/uploads", {})
        refused(client, "POST", "/v1/jobs", request())
        assert client.get("/v1/jobs").status_code == 200
        other.execute("ROLLBACK")
        other.close()
        assert client.post("/v1/uploads", json={}).status_code == 201


def test_a_teacher_is_looked_at_while_nobody_waits_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deps, "LOCK_PATIENCE_S", 0.2)
    monkeypatch.setattr("api.main.LOCK_PATIENCE_S", 0.2)
    settings = Settings(data_dir=tmp_path, database_url=None)
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        upload = f"/v1/uploads/{client.post('/v1/uploads', json={}).json()['id']}"
        assert client.put(f"{upload}/parts/1", content=b"no weights at all").status_code == 204
        id = client.post(f"{upload}:complete", json={}).json()["id"]
        other = sqlite3.connect(tmp_path / "archsearch.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        source = {"kind": "upload", "upload": id, "architecture": "resnet18", "num_classes": 4}
        answer = client.post("/v1/teachers", json={"source": source})
        other.close()
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_teacher"), answer.text


def test_a_full_disk_is_503(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=None)
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        services = client.app.state.services  # type: ignore[attr-defined]
        with services.database.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        # A file that may not grow is what a full disk is to SQLite.
        services.database.dispose()
        event.listen(
            services.database, "connect", lambda raw, _: raw.cursor().execute(f"PRAGMA max_page_count={pages}")
        )
        answers = [client.post("/v1/uploads", json={"filename": "x" * 255}) for _ in range(60)]
        full = [answer for answer in answers if answer.status_code != 201]
        assert full
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in full} == {(503, "30")}
        assert client.get("/v1/jobs").status_code == 200


@pytest.fixture
def cramped(small_disk: Path, tmp_path: Path) -> Iterator[TestClient]:
    """The application with its files on a small disk, and its database elsewhere."""
    settings = Settings(data_dir=small_disk, database_url=f"sqlite:///{tmp_path / 'a.db'}")
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def test_parts_and_completions_on_a_full_disk_are_503_and_leave_nothing(cramped: TestClient, small_disk: Path) -> None:
    upload = f"/v1/uploads/{cramped.post('/v1/uploads', json={}).json()['id']}"
    folder = small_disk / "uploads" / upload.rpartition("/")[2]
    assert cramped.put(f"{upload}/parts/1", content=b"x" * 3_000_000).status_code == 204
    with full(small_disk, but_bytes=1_000_000):
        told = [
            cramped.put(f"{upload}/parts/2", content=b"x" * 3_000_000),
            cramped.post(f"{upload}:complete", json={}),
        ]
        assert [(answer.status_code, answer.headers.get("retry-after")) for answer in told] == [(503, "30")] * 2
        assert {answer.json()["detail"] for answer in told} == {"the server's disk is full"}
        assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["000001", "lock"]
    assert cramped.post(f"{upload}:complete", json={}).json()["size_bytes"] == 3_000_000


def test_a_data_set_waits_for_room(cramped: TestClient, small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = small_arrays(count=60_000)
    upload = f"/v1/uploads/{cramped.post('/v1/uploads', json={}).json()['id']}"
    assert cramped.put(f"{upload}/parts/1", content=npz(**arrays)).status_code == 204
    assert cramped.post(f"{upload}:complete", json={}).status_code == 200
    path = cramped.post("/v1/datasets", json={"upload": upload.rpartition("/")[2], "format": "npz"}).headers["location"]
    with ThreadPoolExecutor(1) as worker:
        with full(small_disk, but_bytes=2_000_000):
            reading = worker.submit(finish, cramped, path)
            wait(lambda: "waits: the disk is full" in caplog.text or reading.done(), lambda: caplog.text)
            assert cramped.get(path).json()["status"] == "checking"
        assert reading.result()["status"] == "ready", reading.result()
    assert not list((small_disk / "datasets").glob(".*"))
