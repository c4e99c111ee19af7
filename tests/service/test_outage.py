"""A database that goes away, is locked or finds its disk full, in every phase of a job: nothing is lost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from archsearch.errors import ServiceError
from tests.postgres_server import postgres_server
from tests.service.server import PATIENCE_S, Server, wait
from tests.small_disk import full

PHASES = ("validating", "searching", "verifying", "distilling", "exporting")


def request(named: Mapping[str, Any], space: str = "resnet_cifar") -> dict[str, Any]:
    """A job with every phase."""
    return {
        **named,
        "budget": {"params_ratio": 0.5},
        "search": {"space": space, "candidates": 12, "batch_size": 64},
        "verify": {"candidates": 2, "epochs": 1},
        # Long enough not to be over before anybody has looked.
        "distill": {"epochs": 12, "batch_size": 32},
    }


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Server]:
    server = Server(folder, **environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def asked(server: Server, job_id: str) -> dict[str, Any]:
    """The job; nothing while the service says that its database is away."""
    try:
        answer = server.http.get(f"/v1/jobs/{job_id}")
    except httpx.TransportError:
        return {}
    assert answer.status_code in (200, 503), answer.text
    job: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
    return job


def weights(server: Server, job_id: str) -> str:
    artifacts = server.http.get(f"/v1/jobs/{job_id}/artifacts").json()
    return str(next(each["sha256"] for each in artifacts if each["name"] == "model.safetensors"))


def disturbed(server: Server, job_id: str, disturb: Callable[[str], None]) -> None:
    """Do it once in every phase, and see the job to its end."""
    reached: list[str] = []
    deadline = time.monotonic() + 5 * PATIENCE_S
    job: dict[str, Any] = {}
    while job.get("finished_at") is None:
        assert time.monotonic() < deadline, f"{job}\n{server.log.read_text()[-4000:]}"
        job = asked(server, job_id) or job
        if job.get("phase") in PHASES and job["phase"] not in reached and job["finished_at"] is None:
            reached.append(job["phase"])
            disturb(job["phase"])
        time.sleep(0.02)
    assert job["status"] == "succeeded", f"{job}\n{server.log.read_text()[-4000:]}"
    assert reached == list(PHASES)
    # One attempt, which is to say that it waited where it was.
    assert job["attempt"] == 1, server.log.read_text()
    assert job["waiting"] is None
    rows = server.client.candidates(job_id, limit=100)
    assert sorted(row["number"] for row in rows) == list(range(12))


@pytest.mark.slow
def test_postgresql_is_restarted_in_every_phase(digits_npz: Path, teacher_folder: Path, tmp_path: Path) -> None:
    modes = dict(zip(PHASES, ("fast", "immediate", "smart", "immediate", "fast"), strict=True))
    with postgres_server() as database, serving(tmp_path / "data", ARCHSEARCH_DATABASE_URL=database.url) as server:

        def restart(phase: str) -> None:
            database.stop(modes[phase])
            answer = server.http.get("/v1/jobs")
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), answer.text
            database.start()

        named = server.furnish(digits_npz, teacher_folder)
        # Students that begin with weights of their teacher's, and others with noise.
        asked = request(named, "auto")
        quiet = server.submit(asked)
        server.wait_for(quiet, "succeeded", within_s=5 * PATIENCE_S)
        job_id = server.submit(asked)
        disturbed(server, job_id, restart)
        assert weights(server, job_id) == weights(server, quiet)
        both = [[(row["start"], row["architecture"], row["score"]) for row in server.client.candidates(id, limit=100)]
                for id in (quiet, job_id)]  # fmt: skip
        assert both[0] == both[1]
        assert {start for start, *_ in both[0]} == {"teacher", "scratch"}


@pytest.mark.slow
def test_a_disk_is_full_and_sqlite_locked_in_every_phase(
    digits_npz: Path, teacher_folder: Path, small_disk: Path
) -> None:
    with serving(small_disk / "data") as server:
        named = server.furnish(digits_npz, teacher_folder)
        quiet = server.submit(request(named))
        server.wait_for(quiet, "succeeded", within_s=5 * PATIENCE_S)
        job_id = server.submit(request(named))

        def disturb(phase: str) -> None:
            with full(small_disk):
                time.sleep(2)
            # Once for longer than a connection itself waits for a lock.
            with closing(sqlite3.connect(server.database, timeout=30, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                time.sleep(35 if phase == "distilling" else 3)
                other.execute("ROLLBACK")

        disturbed(server, job_id, disturb)
        assert weights(server, job_id) == weights(server, quiet)


@pytest.mark.slow
def test_a_failed_job_goes_on_from_its_checkpoint_when_it_is_retried(
    digits_npz: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    with serving(tmp_path / "data") as server:
        named = server.furnish(digits_npz, teacher_folder)
        body = {**request(named), "verify": None, "distill": {"epochs": 6, "batch_size": 32}}
        job_id = server.submit(body)

        def trained() -> bool:
            done = [event["data"] for event in server.events(job_id) if event["type"] == "progress"]
            return bool(done) and done[-1]["phase"] == "distilling" and done[-1]["epoch"] >= 2

        wait(trained, lambda: server.log.read_text(), 3 * PATIENCE_S)
        server.client.cancel(job_id)
        server.wait_for(job_id, "cancelled")
        before = [row["number"] for row in server.client.candidates(job_id, limit=100)]
        assert server.client.retry(job_id)["status"] == "queued"
        with pytest.raises(ServiceError, match="one that failed or was cancelled"):
            server.client.retry(job_id)
        watched = list(server.client.watch(job_id))
        job = server.client.job(job_id)
        assert (job["status"], job["attempt"]) == ("succeeded", 2)
        assert [row["number"] for row in server.client.candidates(job_id, limit=100)] == before
    types = [event["type"] for event in watched]
    assert types.count("done") == 2
    assert types[-1] == "done"
    retried = watched[types.index("retried") :]
    resumed = [e["data"] for e in retried if e["type"] == "progress" and e["data"]["phase"] == "distilling"]
    assert resumed[0]["resumed_at"] > 0
    assert not [e for e in retried if e["type"] == "phase" and e["data"]["phase"] == "searching"]
