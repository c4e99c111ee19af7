"""Real databases and real worker processes, which are really killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos import DBOSClient

from archsearch.engine import EngineClient, Lane, step
from archsearch.store.database import connect, session_factory

ROOT = Path(__file__).parents[1]

WORKER = """
import errno, sys, time
from pathlib import Path
from archsearch.engine import Worker, step
from archsearch.store.database import connect

url, name, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])

def note(job, what):
    with open(folder / "log", "a") as log:
        log.write(f"{job} {what} {name}\\n")

def first(job):
    note(job, "first")
    return (job, 1.5)

def second(job):
    note(job, "second")
    while not (folder / f"{job}.go").exists():
        time.sleep(0.02)
    return None

def two_steps(job):
    assert step("first", first, job) == [job, 1.5]
    step("second", second, job)
    note(job, "done")

def again(job):
    note(job, "again")
    if (folder / "log").read_text().count("again") < 2:
        raise OSError(errno.ENOSPC, "No space left on device")
    two_steps(job)

def third(job):
    note(job, "third")
    raise ZeroDivisionError(job)

def failing(job):
    try:
        step("third", third, job)
    except ZeroDivisionError:
        note(job, "caught")
        step("second", second, job)
    raise RuntimeError("unexpected")

Worker(
    connect(url), name=name, lock_dir=folder / "workers", poll_interval_s=0.05, takeover_interval_s=0.2,
    workflows={"two_steps": two_steps, "failing": failing, "again": again},
).serve()
"""


class House:
    """A database, its client and its worker processes, which share a folder with a log of what ran."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.database = connect(url)
        self.client = EngineClient(self.database)
        self.client.prepare()
        self.sessions = session_factory(self.database)
        self.processes: list[subprocess.Popen[str]] = []

    def worker(self, name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", WORKER, self.url, name, str(self.folder)]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def enqueue(self, job: str, workflow: str = "two_steps", lane: Lane = "heavy") -> None:
        with self.sessions.begin() as session:
            self.client.enqueue(session, workflow, job, job, lane=lane)

    def go(self, *jobs: str) -> None:
        for job in jobs:
            (self.folder / f"{job}.go").touch()

    def log(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def wait_for(self, *lines: str, within_s: float = 60) -> None:
        wait(lambda: set(lines) <= set(self.log()), within_s, lambda: f"{lines} not in {self.log()}")

    def wait_for_status(self, job: str, status: str) -> None:
        wait(lambda: self.client.status(job) == status, 15, lambda: f"{job} is {self.client.status(job)}")

    def close(self) -> None:
        for process in self.processes:
            kill(process)
            if process.stderr is not None:
                process.stderr.close()
        self.client.close()
        self.database.dispose()


def wait(condition: Callable[[], bool], within_s: float, complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(f"sqlite:///{tmp_path / 'a.db'}", tmp_path)
    yield house
    house.close()


@pytest.fixture
def postgres_house(postgres_url: str, tmp_path: Path) -> Iterator[House]:
    house = House(postgres_url, tmp_path)
    yield house
    house.close()


def test_a_rolled_back_enqueue_leaves_nothing_and_a_committed_one_runs_soon(house: House) -> None:
    house.go("warm", "rolled", "kept")
    house.worker("w1")
    house.enqueue("warm")
    house.wait_for("warm done w1")
    with house.sessions() as session:
        house.client.enqueue(session, "two_steps", "rolled", "rolled")
        session.rollback()
    assert house.client.status("rolled") is None
    house.enqueue("kept")
    house.wait_for("kept first w1", within_s=1)
    house.wait_for_status("kept", "SUCCESS")
    assert not any(line.startswith("rolled") for line in house.log())


def check_kill_and_restart(house: House) -> None:
    with house.sessions() as session:
        house.client.enqueue(session, "two_steps", "rolled", "rolled")
        session.rollback()
    house.enqueue("a")
    killed = house.worker("w1")
    house.wait_for("a second w1")
    kill(killed)
    assert house.client.status("a") == "PENDING"
    house.go("a")
    house.worker("w1")
    house.wait_for_status("a", "SUCCESS")
    assert house.log() == ["a first w1", "a second w1", "a second w1", "a done w1"]


def test_a_restarted_worker_runs_again_only_the_step_it_was_killed_in(house: House) -> None:
    check_kill_and_restart(house)


@pytest.mark.slow
def test_postgresql_resumes_after_a_kill_too(postgres_house: House) -> None:
    check_kill_and_restart(postgres_house)


def test_a_survivor_takes_over_from_the_dead_and_leaves_the_living_alone(house: House) -> None:
    house.enqueue("alive")
    house.worker("living")
    house.wait_for("alive second living")
    house.enqueue("orphan")
    doomed = house.worker("doomed")
    house.wait_for("orphan second doomed")
    kill(doomed)
    house.go("orphan")
    house.worker("survivor")
    house.wait_for_status("orphan", "SUCCESS")
    # Some more looks at the living one, whose own next job is the only thing that may happen to it.
    time.sleep(0.6)
    assert [line for line in house.log() if line.startswith("alive")] == ["alive first living", "alive second living"]
    house.go("alive")
    house.wait_for_status("alive", "SUCCESS")
    orphan = [line for line in house.log() if line.startswith("orphan")]
    assert orphan == ["orphan first doomed", "orphan second doomed", "orphan second survivor", "orphan done survivor"]


@pytest.mark.slow
def test_a_worker_runs_one_workflow_at_a_time_also_what_it_takes_over(house: House) -> None:
    house.enqueue("a")
    doomed = house.worker("doomed")
    house.wait_for("a second doomed")
    house.enqueue("b")
    house.worker("survivor")
    house.wait_for("b second survivor")
    kill(doomed)
    house.wait_for_status("a", "ENQUEUED")
    time.sleep(0.3)
    assert "a second survivor" not in house.log()
    house.go("a", "b")
    house.wait_for_status("a", "SUCCESS")
    assert house.log().index("a second survivor") > house.log().index("b done survivor")


def test_light_work_does_not_wait_for_heavy_work_of_which_there_is_one_at_a_time(house: House) -> None:
    house.enqueue("long")
    house.worker("w1")
    house.wait_for("long second w1")
    house.enqueue("next")
    house.enqueue("check", lane="light")
    house.wait_for("check second w1")
    house.enqueue("other", lane="light")
    house.go("check")
    house.wait_for("other second w1")
    assert "next first w1" not in house.log()
    house.go("long", "next", "other")
    for job in ("long", "next", "other"):
        house.wait_for_status(job, "SUCCESS")
    assert house.log().index("next first w1") > house.log().index("long done w1")


def test_light_work_in_hand_is_left_at_once_and_taken_over_too(house: House) -> None:
    house.enqueue("check", lane="light")
    told = house.worker("w1")
    house.wait_for("check second w1")
    told.send_signal(signal.SIGTERM)
    _, said = told.communicate(timeout=3)
    assert (told.returncode, said) == (0, "")
    house.go("check")
    house.worker("w2")
    house.wait_for("check done w2")


def check_another_start(house: House) -> None:
    house.enqueue("a")
    killed = house.worker("w1")
    house.wait_for("a second w1")
    kill(killed)
    house.client.cancel("a")
    with house.sessions.begin() as session:
        assert house.client.owners(session, "a") == {}
        assert house.client.enqueue_again(session, "two_steps", "a", "a") == "a:1"
    with house.sessions.begin() as session:
        assert house.client.owners(session, "a") == {"a:1": None}
        assert house.client.enqueue_again(session, "two_steps", "a", "a") == "a:1"  # it is in the queue
    house.worker("w1")
    house.go("a")
    house.wait_for_status("a:1", "SUCCESS")
    assert house.log() == ["a first w1", "a second w1", "a second w1", "a done w1"]


def test_another_start_of_a_workflow_does_not_run_its_finished_steps_again(house: House) -> None:
    check_another_start(house)


@pytest.mark.slow
def test_another_start_on_postgresql_too(postgres_house: House) -> None:
    check_another_start(postgres_house)


@pytest.mark.slow
def test_a_workflow_no_thread_runs_is_put_back(house: House) -> None:
    """As one is that was claimed when the database went away, and one that has to start again."""
    house.enqueue("a", "again")
    house.go("a")
    house.worker("w1")
    house.wait_for_status("a", "SUCCESS")
    assert house.log() == ["a again w1", "a again w1", "a first w1", "a second w1", "a done w1"]


def test_a_name_is_taken_only_once(house: House) -> None:
    first = house.worker("w1")
    lock = house.folder / "workers" / "w1.lock"
    wait(lambda: lock.exists() and f"pid {first.pid} " in lock.read_text(), 15, lambda: "never started")
    second = house.worker("w1")
    _, said = second.communicate(timeout=15)
    assert second.returncode != 0
    assert "Conflict: worker 'w1' runs already" in said
    assert f"pid {first.pid} " in said


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_worker_told_to_stop_leaves_at_once_and_its_workflow_starts_again(house: House, number: int) -> None:
    house.enqueue("a")
    told = house.worker("w1")
    house.wait_for("a second w1")
    told.send_signal(number)
    _, said = told.communicate(timeout=3)
    assert (told.returncode, said) == (0, "")
    assert house.client.status("a") == "PENDING"
    idle = house.worker("w2")
    house.go("a")
    house.wait_for("a done w2")
    house.wait_for_status("a", "SUCCESS")
    idle.send_signal(number)
    idle.communicate(timeout=3)
    assert idle.returncode == 0


@pytest.mark.slow
def test_a_worker_told_to_stop_while_it_takes_work_is_quiet_too(house: House) -> None:
    jobs = [f"job{number}" for number in range(36)]
    house.go(*jobs)
    for number in range(12):
        told = house.worker("w1")
        first, *others = jobs[3 * number : 3 * number + 3]
        house.enqueue(first)
        house.wait_for(f"{first} done w1")
        for job in others:
            house.enqueue(job)
        time.sleep(0.012 * number)
        told.send_signal(signal.SIGTERM)
        _, said = told.communicate(timeout=15)
        assert (told.returncode, said) == (0, "")
    house.worker("w2")
    for job in jobs:
        house.wait_for_status(job, "SUCCESS")


def test_a_cancelled_workflow_never_starts_or_goes_no_further(house: House) -> None:
    house.enqueue("queued")
    house.client.cancel("queued")
    house.enqueue("running")
    house.worker("w1")
    house.wait_for("running second w1")
    house.client.cancel("running")
    house.go("queued", "running", "after")
    house.enqueue("after")
    house.wait_for_status("after", "SUCCESS")
    assert [house.client.status(job) for job in ("queued", "running")] == ["CANCELLED", "CANCELLED"]
    assert house.log() == [
        "running first w1",
        "running second w1",
        "after first w1",
        "after second w1",
        "after done w1",
    ]


def test_a_step_that_raised_runs_again_and_a_workflow_that_raised_does_not(house: House) -> None:
    house.enqueue("a", "failing")
    killed = house.worker("w1")
    house.wait_for("a second w1")
    kill(killed)
    house.go("a")
    house.worker("w1")
    house.wait_for_status("a", "ERROR")
    once = ["a third w1", "a caught w1", "a second w1"]
    assert house.log() == once * 2


def test_the_database_holds_only_json(house: House) -> None:
    house.go("a", "b")
    house.enqueue("a")
    house.enqueue("b", "failing")
    house.worker("w1")
    house.wait_for_status("a", "SUCCESS")
    house.wait_for_status("b", "ERROR")
    stored = []
    with house.database.connect() as connection:
        for table in sa.inspect(house.database).get_table_names():
            for row in connection.execute(sa.text(f'SELECT * FROM "{table}"')).mappings():
                assert row.get("serialization") in (None, "portable_json")
                stored += [row[key] for key in ("inputs", "output", "error") if row.get(key) is not None]
    assert len(stored) >= 7
    for text in stored:
        json.loads(text)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_planted_pickle_is_never_read(house: House) -> None:
    careless = DBOSClient(system_database_engine=house.database, application_name="archsearch")
    careless.enqueue(
        {"workflow_name": "two_steps", "workflow_id": "a", "queue_name": "jobs", "app_version": "1"},
        Trap(house.folder / "sprung"),
    )
    careless.destroy()
    house.worker("w1")
    house.wait_for_status("a", "ERROR")
    assert not (house.folder / "sprung").exists()
    assert house.log() == []


@pytest.mark.slow
def test_many_processes_prepare_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    program = (
        "import sys, time, dbos\nfrom archsearch.engine import EngineClient\n"
        "from archsearch.store.database import connect\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "EngineClient(connect(sys.argv[1])).prepare()\n"
    )
    command = [sys.executable, "-c", program, url, str(time.time() + 2.5)]
    running = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate()[1] for process in running] == [b""] * 4
    engine = connect(url)
    assert EngineClient(engine).status("nobody") is None
    engine.dispose()


def test_a_step_outside_a_workflow_is_a_plain_call() -> None:
    assert step("add", lambda a, b: (a + b,), 1, b=2) == [3]
    with pytest.raises(ZeroDivisionError):
        step("divide", lambda: 1 / 0)
