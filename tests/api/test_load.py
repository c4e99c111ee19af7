"""Many clients at once: nobody is left hanging, nothing fails, and who cannot be served is told when to come."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.conftest import request as a_job
from tests.api.live import Answers, Ask, Live, all_at_once, live_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("load") / "data") as server:
        yield server


def test_more_clients_than_threads_and_connections_are_all_answered(server: Live) -> None:
    reading = [Ask("GET", "/v1/jobs?limit=1")] * 60 + [Ask("GET", "/v1/uploads/up_00000000000000000000")] * 60
    found = asyncio.run(all_at_once(server.port, [*reading, Ask("GET", "/healthz")], 20))
    assert found.statuses == {200: 61, 404: 60}, found


def test_writes_stand_in_line_instead_of_failing(server: Live) -> None:
    found = asyncio.run(all_at_once(server.port, [Ask("POST", "/v1/uploads", {})] * 60, 20))
    assert found.statuses == {201: 60}, found
    assert len({body["id"] for body in found.bodies}) == 60


def everyday(clients: int, jobs: list[str]) -> list[Ask]:
    """What that many clients do at the same moment: half of them write, some the same thing as others."""
    kinds = [
        lambda number: Ask("POST", "/v1/uploads", {"filename": f"{number}.npz"}),
        lambda number: Ask("GET", f"/v1/jobs/{jobs[number % len(jobs)]}"),
        lambda number: Ask("POST", "/v1/jobs", a_job(), {"Idempotency-Key": f"key {number // 16}"}),
        lambda number: Ask("GET", ("/v1/jobs?limit=50", "/v1/teachers", "/v1/datasets", "/v1/spaces")[number // 4 % 4]),
    ]
    return [kinds[number % len(kinds)](number) for number in range(clients)]


# In a process of its own, whose clock does not stand still while a thousand clients start.
BEAT = """
import http.client, sys, time
while True:
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()
    print(time.monotonic() - started, flush=True)
    time.sleep(0.05)
"""


def storm(port: int, asks: list[Ask]) -> tuple[Answers, list[float]]:
    """What they were told, and how long the server took meanwhile to say that it lives, in seconds."""
    command = [sys.executable, "-c", BEAT, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as heart:
        assert heart.stdout is not None
        took = [heart.stdout.readline()]
        found = asyncio.run(all_at_once(port, asks, 60, tries=20))
        heart.terminate()
        took += heart.stdout.readlines()
    return found, [float(line) for line in took]


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_thousand_clients_read_and_write(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> None:
    names = {"ARCHSEARCH_DATABASE_URL": request.getfixturevalue("postgres_url")} if database == "postgresql" else {}
    with live_server(tmp_path / "data", **names) as server:
        first = asyncio.run(all_at_once(server.port, [Ask("POST", "/v1/jobs", a_job())] * 4, 30))
        jobs = [body["id"] for body in first.bodies]
        for clients in (200, 1000):
            found, heart = storm(server.port, everyday(clients, jobs))
            assert found.unexpected == [], found.unexpected[:5]
            assert set(found.statuses) <= {200, 201, 202, 503}, found.statuses
            served = sum(count for status, count in found.statuses.items() if status != 503)
            assert served == clients, found.statuses  # whoever was told to come again did, and was served
            # Its processes and a thousand clients share the machine's cores for the first seconds.
            assert sorted(heart)[len(heart) * 9 // 10] < 1.0, sorted(heart)[-5:]
            assert max(heart) < 5.0, sorted(heart)[-5:]
        keyed = [body["id"] for body in found.bodies if isinstance(body, dict) and body.get("kind")]
        assert len(set(keyed)) <= len(jobs) + 1000 // 16 + 1  # one job a key, however many asked for it
        assert "Traceback" not in server.log.read_text()
