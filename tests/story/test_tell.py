"""The story is told once: which phase follows which, and the same result whether rows or a folder keep it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from archsearch.data import Dataset
from archsearch.ledger.folder import FolderLedger
from archsearch.ledger.ledger import Report
from archsearch.ledger.rows import RowLedger
from archsearch.request import JobRequest
from archsearch.store import queries
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import Job
from archsearch.story import Opened, Story, tell
from archsearch.story.tell import spans
from archsearch.teachers import Teacher

BODY = {
    "teacher": {"kind": "local", "path": "teacher"},
    "data": {"kind": "digits"},
    "budget": {"params_ratio": 0.5},
    "search": {"space": "resnet_cifar", "batch_size": 32, "candidates": 2},
    "verify": None,
    "distill": {"epochs": 1, "batch_size": 64, "device": "cpu"},
}
STUDENT = {"kind": "distill", "budget": {}, "student": {"space": "resnet_cifar", "architecture": {"depth1": 1}}}
VERIFIED = {"verify": {"candidates": 2, "epochs": 1}}
FOUND, CHECKED = {"space": "found", "architecture": {}}, {"space": "checked", "architecture": {}}


class Finished:
    """How a story is told whose phases are all over."""

    def __init__(self, request: JobRequest, student: str = ".") -> None:
        self.names: list[str] = []
        self.last: tuple[Any, ...] = ()
        self.results: dict[str, Report] = {
            "validate": {"name": "teacher", "settled": {"request": request.model_dump(mode="json"), "chosen": {}}},
            "search": {"winner": FOUND},
            "verify": {"winner": CHECKED},
            "distill": {"folder": student},
            "distill anew": {"folder": "."},
            "export": {"all": "told"},
        }

    def __call__(self, name: str, phase: Callable[..., Report], /, *args: Any) -> Report:
        self.names.append(name)
        self.last = args
        return self.results[name]


def unopened() -> Opened:
    raise AssertionError("what is over needs neither teacher nor data")


@pytest.mark.parametrize(
    ("changes", "phases", "chosen"),
    [
        ({"kind": "search"}, ["validate", "search", "export"], FOUND),
        ({"kind": "search", **VERIFIED}, ["validate", "search", "verify", "export"], CHECKED),
        ({}, ["validate", "search", "distill", "export"], FOUND),
        (VERIFIED, ["validate", "search", "verify", "distill", "export"], CHECKED),
        (STUDENT, ["validate", "distill", "export"], STUDENT["student"]),
    ],
)
def test_a_story_that_is_over_is_told_in_order_and_opens_nothing(
    changes: Report, phases: list[str], chosen: Report, tmp_path: Path
) -> None:
    request = JobRequest.model_validate({**BODY, **changes})
    once = Finished(request)
    assert tell(Story(request, FolderLedger(tmp_path, request, lambda report: None), unopened), once) == {"all": "told"}
    assert once.names == phases
    _, last, so_far = once.last
    assert {name: last[name] for name in ("space", "architecture")} == {name: chosen[name] for name in FOUND}
    assert so_far["teacher"] == {"name": "teacher"}, "what was settled is no part of it"
    assert list(so_far) == ["teacher", "chosen", *(n.replace("distill", "student") for n in phases[1:-1])]


def test_a_student_that_is_gone_is_distilled_anew(tmp_path: Path) -> None:
    request = JobRequest.model_validate(BODY)
    once = Finished(request, student="attempts/1/student")
    tell(Story(request, FolderLedger(tmp_path, request, lambda report: None), unopened), once)
    assert once.names == ["validate", "search", "distill", "distill anew", "export"]
    assert once.last[-1]["student"] == {"folder": "."}


@pytest.mark.parametrize("changes", [{"kind": "search"}, {"kind": "search", **VERIFIED}, {}, VERIFIED, STUDENT])
def test_a_jobs_phases_fill_its_whole_progress_one_after_the_other(changes: Report) -> None:
    request = JobRequest.model_validate({**BODY, **changes})
    names = ["validating"]
    names += ["searching"] * (request.kind != "distill") + ["verifying"] * (request.verification is not None)
    names += ["distilling"] * (request.kind != "search") + ["exporting"]
    each = [spans(request)[name] for name in names]
    assert [begin for begin, _ in each] == [0.0, *(end for _, end in each[:-1])]
    assert each[-1] == (0.98, 1.0)


def test_a_folder_validates_again_and_keeps_what_was_settled_first(tmp_path: Path) -> None:
    request = JobRequest.model_validate(BODY)
    for name in ("first", "second"):
        ledger = FolderLedger(tmp_path, request, lambda report: None)
        found = ledger.once("validate", lambda name=name: {"name": name, "settled": {"by": name}})
        assert found == {"name": name, "settled": {"by": "first"}}
    assert json.loads((tmp_path / ".work" / "settled.json").read_text()) == {"by": "first"}


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[sessionmaker[Session]]:
    engine = connect(f"sqlite:///{tmp_path / 'a.db'}")
    upgrade(engine, tmp_path / "lock")
    yield session_factory(engine)
    engine.dispose()


def test_rows_and_a_folder_are_told_the_same(
    sessions: sessionmaker[Session], teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    request = JobRequest.model_validate({**BODY, "kind": "search"})
    with sessions.begin() as session:
        body = request.model_dump(mode="json")
        session.add(Job(id="job_1", kind="search", request=body, status="running", attempt=1))
    rows = RowLedger(sessions, Files(tmp_path), "job_1", 1)
    reports: list[Report] = []
    folder = FolderLedger(tmp_path / "out", request, reports.append)
    opened = Opened(teacher, few_digits)
    kept, told = (tell(Story(request, ledger, lambda: opened), ledger.once) for ledger in (rows, folder))
    assert timeless(kept) == timeless(told)
    with sessions() as session:
        (listed,) = queries.artifacts(session, "job_1")
        events = queries.events_after(session, "job_1", 0)
        phases = [event.data["phase"] for event in events if event.type == "phase"]
        assert session.get_one(Job, "job_1").progress == pytest.approx(0.98)
    assert phases == list(dict.fromkeys(report["phase"] for report in reports)) == ["validating", "searching"]
    assert [timeless(trial.__dict__) for trial in rows.trials()] == [timeless(t.__dict__) for t in folder.trials()]
    one, other = (json.loads(path.read_text()) for path in (rows.path(listed.path), folder.path("manifest.json")))
    assert set(one.keys() ^ other.keys()) == {"job", "asked", "asked_from"}
    assert one["request"] == other["request"]


def timeless(told: Any) -> Any:
    """A result without the times in it."""
    return json.loads(re.sub(r'"seconds": [\d.e-]+', '"seconds": 0', json.dumps(told, default=str)))
