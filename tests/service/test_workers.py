"""A search over several processes inside a real service: killed, taken up again, cancelled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.service.server import Server, wait

CANDIDATES = 100
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("workers") / "data")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def named(server: Server, digits_npz: Path, teacher_folder: Path) -> dict[str, Any]:
    return server.furnish(digits_npz, teacher_folder)


def request(named: dict[str, Any], **search: Any) -> dict[str, Any]:
    fields = {"candidates": CANDIDATES, "batch_size": 64, "seeds": 2, "space": "resnet_cifar", **search}
    return {**named, "kind": "search", "budget": {"params_ratio": 0.5}, "search": fields}


def scorers(server: Server) -> list[int]:
    """Processes below the worker that score candidates."""
    found, worker = [], server.worker_pid()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == worker and b"archsearch.search.scorer" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def require_gone(pids: list[int], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"{left} outlived the search"
        time.sleep(0.02)


def told(server: Server, job_id: str) -> list[tuple[Any, ...]]:
    rows = sorted(server.client.candidates(job_id, limit=1000), key=lambda row: row["number"])
    return [
        tuple(row[name] for name in ("number", "space", "architecture", "score", "votes", "reason")) for row in rows
    ]


def test_a_search_whose_worker_is_killed_tells_what_one_process_tells(server: Server, named: dict[str, Any]) -> None:
    alone, together = server.submit(request(named)), server.submit(request(named, workers=2))
    server.wait_for(alone, "succeeded")
    wait(lambda: len(scorers(server)) == 2, lambda: "no processes were started")
    wait(lambda: server.client.job(together)["candidates_scored"] >= 3, lambda: "nothing was scored")
    pids = scorers(server)
    server.kill_worker()
    require_gone(pids, within_s=3.0)
    assert server.client.job(together)["status"] == "running", "killed too late to prove anything"
    # The next worker's lose one of them, too.
    wait(lambda: len(scorers(server)) == 2, lambda: "no processes were started again")
    pids = scorers(server)
    os.kill(pids[0], signal.SIGKILL)
    job = server.wait_for(together, "succeeded")
    assert job["attempt"] == 2
    assert job["result"]["search"]["workers"]["processes"] == 2
    require_gone(pids, within_s=3.0)
    assert told(server, together) == told(server, alone)


def test_a_cancelled_search_ends_all_of_its_processes(server: Server, named: dict[str, Any]) -> None:
    job_id = server.submit(request(named, candidates=50_000, workers=2))
    wait(lambda: len(scorers(server)) == 2, lambda: "no processes were started")
    pids = scorers(server)
    server.client.cancel(job_id)
    server.wait_for(job_id, "cancelled")
    require_gone(pids, within_s=3.0)
