"""A teacher's check as a worker makes it: in a process of its own, within limits, and only as long as it is wanted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa

from archsearch import arrival
from archsearch.jobs import Workplace
from archsearch.settings import Settings
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import TeacherRow
from archsearch.teachers import describe_folder
from tests.hub import HubOfFiles, environment

pytestmark = pytest.mark.slow  # every child imports torch


class Desk:
    """A worker's place, with a database of its own."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        database = connect(f"sqlite:///{folder / 'db'}")
        upgrade(database, folder / "lock")
        self.engine, self.files = database, Files(folder)
        self.place = Workplace(session_factory(database), self.files, Settings(data_dir=folder, **settings), "me")

    def add(self, source: dict[str, Any], data: dict[str, Any] | None = None) -> None:
        with self.place.sessions.begin() as session:
            session.add(TeacherRow(id="tch_00000001", source=source, data=data))

    def upload(self, teacher: Path, **changes: Any) -> dict[str, Any]:
        path = self.files.upload("up_00000001")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((teacher / "model.safetensors").read_bytes())
        return {"kind": "upload", "upload": "up_00000001", **describe_folder(teacher), **changes}

    def check(self) -> TeacherRow:
        arrival.check_teacher(self.place, "tch_00000001")
        with self.place.sessions() as session:
            return session.get_one(TeacherRow, "tch_00000001")


@pytest.fixture
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    desk = Desk(tmp_path, **getattr(request, "param", {}))
    yield desk
    desk.engine.dispose()


def test_a_good_teacher_is_ready_with_all_that_was_found_out(desk: Desk, teacher_folder: Path) -> None:
    desk.add(desk.upload(teacher_folder), {"kind": "digits"})
    row = desk.check()
    assert (row.status, row.error, row.facts["num_classes"], row.facts["in_chans"]) == ("ready", None, 10, 1)
    assert row.facts["params"]
    assert row.facts["macs"]
    assert (row.facts["selection_acc"] or 0) > 80


@pytest.mark.parametrize(
    ("desk", "code", "part"),
    [
        ({"check_time_limit_s": 2.0}, "took_too_long", "the teacher's check took more than 2 s"),
        ({"check_memory_bytes": 2**28}, "too_much_memory", "the teacher's check used more than 0.268 GB"),
    ],
    indirect=["desk"],
)
def test_a_check_beyond_its_limits_is_ended_and_says_so(desk: Desk, teacher_folder: Path, code: str, part: str) -> None:
    # An image takes seconds at this size, and some hundreds of MB.
    desk.add(desk.upload(teacher_folder, input_size=1024), {"kind": "digits"})
    row = desk.check()
    assert row.error is not None
    assert (row.status, row.error["code"], row.error["retryable"]) == ("refused", code, False)
    assert part in row.error["detail"]
    assert "input_size" in row.error["detail"]


def test_a_check_ends_within_seconds_of_its_teacher(desk: Desk, teacher_folder: Path) -> None:
    desk.add(desk.upload(teacher_folder, input_size=1024), {"kind": "digits"})
    running = Thread(target=arrival.check_teacher, args=(desk.place, "tch_00000001"))
    running.start()
    deadline = time.monotonic() + 30
    while not children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children()
    with desk.place.sessions.begin() as session:
        session.execute(sa.delete(TeacherRow))
    deleted = time.monotonic()
    running.join(30)
    assert time.monotonic() - deleted < 5
    assert not children()


def children() -> list[int]:
    """Processes that this one has started for bounded work."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if b"archsearch.bounded" in command and parent == os.getpid():
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("mood", ["silent", "503"])
def test_a_hub_that_is_away_refuses_no_teacher_for_good(
    desk: Desk, teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mood: Any
) -> None:
    files = {f"me/good/{name}": (teacher_folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    hub = HubOfFiles(files, mood)
    for name, value in environment(hub, str(tmp_path / "cache")).items():
        monkeypatch.setenv(name, value)
    try:
        desk.add({"kind": "timm", "name": "hf-hub:me/good"})
        row = desk.check()
        assert row.error is not None
        assert (row.status, row.error["code"], row.error["retryable"]) == ("refused", "unavailable", True)
        hub.mood = "serve"
        with desk.place.sessions.begin() as session:
            session.execute(sa.update(TeacherRow).values(status="checking"))
        row = desk.check()
        assert (row.status, row.error, row.facts["num_classes"]) == ("ready", None, 10)
    finally:
        hub.close()
