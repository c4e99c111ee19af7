"""`kill -9`, of workers and of servers, in the middle of real jobs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from archsearch.teachers import describe_folder
from tests.service.server import Server, wait

CANDIDATES, EPOCHS = 24, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kill") / "data"


@pytest.fixture(scope="module")
def named(folder: Path, digits_npz: Path, teacher_folder: Path) -> dict[str, Any]:
    """A data set and a teacher in the folder, which outlive every server on it."""
    with serving(folder) as server:
        return server.furnish(digits_npz, teacher_folder)


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Server]:
    server = Server(folder, **environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def request(named: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        **named,
        "budget": {"params_ratio": 0.5},
        "search": {"candidates": CANDIDATES, "batch_size": 64},
        "distill": {"epochs": EPOCHS, "batch_size": 32},
        **changes,
    }


def candidates(server: Server, job_id: str) -> dict[int, dict[str, Any]]:
    return {row["number"]: row for row in server.client.candidates(job_id, limit=1000)}


def check_candidates(rows: dict[int, dict[str, Any]], before: dict[int, dict[str, Any]], count: int) -> None:
    """Nobody was forgotten, nobody scored twice, and nobody who had been scored was touched."""
    assert sorted(rows) == list(range(count))
    assert len({json.dumps(row["architecture"], sort_keys=True) for row in rows.values()}) == count
    assert {number: rows[number] for number in before} == before


def distilling(server: Server, job_id: str, epochs: int) -> Callable[[], bool]:
    """Whether this many epochs are behind it, and so in a checkpoint."""

    def reached() -> bool:
        done = [event["data"] for event in server.events(job_id) if event["type"] == "progress"]
        return bool(done) and done[-1]["phase"] == "distilling" and done[-1]["epoch"] >= epochs

    return reached


@pytest.mark.slow
def test_a_job_survives_the_death_of_its_worker_in_the_search_and_in_the_distillation(
    folder: Path, named: dict[str, Any]
) -> None:
    with serving(folder) as server:
        job_id = server.submit(request(named))
        wait(lambda: server.client.job(job_id)["candidates_scored"] >= 3, lambda: "nothing was scored")
        first = server.kill_worker()
        before = candidates(server, job_id)
        assert 3 <= len(before) < CANDIDATES, "killed too late to prove anything"

        wait(distilling(server, job_id, 2), lambda: str(server.client.job(job_id)))
        second = server.kill_worker()
        assert second != first
        assert server.client.job(job_id)["status"] == "running"

        job = server.wait_for(job_id, "succeeded")
        assert job["attempt"] == 3
        assert server.worker_pid() not in (first, second, None)
        rows, events = candidates(server, job_id), server.events(job_id)
    check_candidates(rows, before, CANDIDATES)
    assert {rows[number]["attempt"] for number in before} == {1}
    assert {row["attempt"] for number, row in rows.items() if number not in before} == {2}
    assert job["result"]["search"]["candidates_scored"] == CANDIDATES
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["data"]["attempt"] for event in events if event["type"] == "started"] == [1, 2, 3]
    assert [event["type"] for event in events].count("done") == 1
    resumed = [event["data"] for event in events if event["data"].get("resumed_at", 0) > 0]
    assert resumed
    assert min(progress["step"] for progress in resumed) >= resumed[0]["resumed_at"] > 0
    assert resumed[-1]["epoch"] == EPOCHS


@pytest.mark.slow
def test_the_worker_dies_with_its_server_and_the_next_server_finishes_the_job(
    folder: Path, named: dict[str, Any]
) -> None:
    with serving(folder) as server:
        job_id = server.submit(request(named, kind="search"))
        wait(lambda: server.client.job(job_id)["candidates_scored"] >= 3, lambda: "nothing was scored")
        before, worker = candidates(server, job_id), server.worker_pid()
        server.kill()
        wait(lambda: not Path(f"/proc/{worker}").exists(), lambda: f"worker {worker} outlived its server", 10)
    with serving(folder) as server:
        job = server.wait_for(job_id, "succeeded")
        check_candidates(candidates(server, job_id), before, CANDIDATES)
    assert job["attempt"] == 2


@pytest.mark.slow
def test_a_server_that_is_told_to_stop_takes_its_worker_along_and_the_job_goes_on_later(
    folder: Path, named: dict[str, Any]
) -> None:
    with serving(folder) as server:
        job_id = server.submit(request(named, kind="search"))
        wait(lambda: server.client.job(job_id)["candidates_scored"] >= 3, lambda: "nothing was scored")
        worker = server.worker_pid()
        assert server.stop() == 0
        assert not Path(f"/proc/{worker}").exists()
    with serving(folder) as server:
        assert server.wait_for(job_id, "succeeded")["attempt"] == 2


@pytest.mark.slow
def test_a_job_that_keeps_killing_its_worker_is_given_up_and_the_next_one_is_done(
    folder: Path, named: dict[str, Any]
) -> None:
    with serving(folder, ARCHSEARCH_MAX_ATTEMPTS="2") as server:
        # Not before a worker is there to be killed in its first steps, when torch is not yet imported.
        poisonous = server.submit(request(named, kind="search", search={"candidates": 100_000}))
        following = server.submit(request(named, kind="search", search={"candidates": 2}))
        killed: set[int] = set()

        def given_up() -> bool:
            job = server.client.job(poisonous)
            if job["status"] == "running" and job["attempt"] > len(killed):
                killed.add(server.kill_worker())
            return job["finished_at"] is not None

        wait(given_up, lambda: str(server.client.job(poisonous)))
        job = server.client.job(poisonous)
        assert (job["status"], job["error"]["code"]) == ("failed", "too_many_attempts"), job
        assert job["attempt"] == len(killed) + 1 >= 3
        server.wait_for(following, "succeeded")


@pytest.mark.slow
def test_a_teacher_that_keeps_killing_its_worker_is_refused(
    folder: Path, named: dict[str, Any], teacher_folder: Path
) -> None:
    with serving(folder, ARCHSEARCH_MAX_ATTEMPTS="1") as server, closing(sqlite3.connect(server.database)) as database:
        teacher = server.client.add_teacher(
            describe_folder(teacher_folder),
            weights=teacher_folder / "model.safetensors",
            data=named["data"],
            wait_s=0,
        )

        def begun() -> bool:
            # What a check costs a worker is nothing that clients need to know, so no route tells.
            query = "SELECT attempt FROM teachers WHERE id = ?"
            return bool(database.execute(query, (teacher["id"],)).fetchone()[0] == 1)

        wait(begun, lambda: "the check did not begin")
        server.kill_worker()

        def judged() -> bool:
            teacher.update(server.client.call("GET", f"/v1/teachers/{teacher['id']}"))
            return bool(teacher["status"] != "checking")

        wait(judged, lambda: str(teacher))
        assert (teacher["status"], teacher["error"]["code"]) == ("refused", "too_many_attempts")
