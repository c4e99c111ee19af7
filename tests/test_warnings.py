"""What the user is warned of: once in a job's life, and wherever the result is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archsearch.ledger.folder import FolderLedger
from archsearch.ledger.rows import RowLedger
from archsearch.request import JobRequest, parse_request
from archsearch.store import queries
from archsearch.store.database import connect, session_factory
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import Job

Report = dict[str, Any]


@pytest.fixture
def request_() -> JobRequest:
    return parse_request(
        {"teacher": {"kind": "timm", "name": "resnet18"}, "data": {"kind": "digits"}, "budget": {"params": 9999}}
    )


def test_a_folder_tells_a_warning_once_over_all_attempts(request_: JobRequest, tmp_path: Path) -> None:
    reports: list[Report] = []
    for detail in ("the first attempt's words", "the second's"):
        ledger = FolderLedger(tmp_path, request_, reports.append)
        ledger.report({"phase": "validating"})
        ledger.warn("odd_data", detail)
    ledger.warn("another", "of another kind")
    told = [
        {"code": "odd_data", "detail": "the first attempt's words"},
        {"code": "another", "detail": "of another kind"},
    ]
    assert ledger.warnings() == told
    assert [report["warning"] for report in reports if "warning" in report] == told
    assert all(report["phase"] == "validating" for report in reports), "whoever reads phases alone goes on doing so"


def test_rows_tell_a_warning_once_over_all_attempts(request_: JobRequest, tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'a.db'}")
    upgrade(engine, tmp_path / "lock")
    sessions = session_factory(engine)
    with sessions.begin() as session:
        session.add(Job(id="job_1", kind="search", request=json.loads(request_.model_dump_json()), status="running"))
    for attempt in (1, 2):
        with sessions.begin() as session:
            session.get_one(Job, "job_1").attempt = attempt
        ledger = RowLedger(sessions, Files(tmp_path), "job_1", attempt)
        ledger.warn("odd_data", f"attempt {attempt}")
        ledger.warn("another", "of another kind")
    told = [{"code": "odd_data", "detail": "attempt 1"}, {"code": "another", "detail": "of another kind"}]
    assert ledger.warnings() == told
    with sessions() as session:
        events = queries.events_after(session, "job_1", 0)
        assert [(event.type, event.data) for event in events] == [("warning", warning) for warning in told]
    engine.dispose()
