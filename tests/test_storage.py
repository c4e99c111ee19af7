from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy import text

from archsearch import storage
from archsearch.cli import app
from archsearch.errors import Conflict, NotFound
from archsearch.settings import Settings
from archsearch.storage import Retention, Store
from archsearch.store import delete, queries
from archsearch.store.database import connect, session_factory, writing
from archsearch.store.files import Files
from archsearch.store.migrate import upgrade
from archsearch.store.models import Artifact, DatasetRow, Job, TeacherRow, Upload, now
from archsearch.store.uploads import held

RETENTION = Retention.of(Settings(keep_cache_bytes=1000))
LONG_AGO = now() - timedelta(days=100)
Write = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    engine = connect(f"sqlite:///{tmp_path / 'data' / 'archsearch.db'}")
    upgrade(engine, tmp_path / "lock")
    yield Store(session_factory(engine), Files(tmp_path / "data"))
    engine.dispose()


@pytest.fixture
def write(store: Store) -> Write:
    def write(path: str, size_bytes: int = 10, days_old: float = 100) -> Path:
        target = store.files.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"x" * size_bytes)
        at = time.time() - 86_400 * days_old
        for each in (target, target.parent):
            os.utime(each, (at, at))
        return target

    return write


def add(store: Store, *rows: Any) -> None:
    with store.sessions.begin() as session:
        for row in rows:
            session.add(row)
            session.flush()


def job(id: str, status: str, finished_at: Any = LONG_AGO) -> Job:
    return Job(id=id, kind="search", status=status, request={}, created_at=LONG_AGO, finished_at=finished_at)


def gone(store: Store, retention: Retention = RETENTION) -> dict[str, list[str]]:
    """What is said to go, which has to be what then goes, and nothing after that."""
    told = storage.waste(store, retention)
    assert storage.prune(store, retention) == told
    assert storage.waste(store, retention) == []
    found: dict[str, list[str]] = {}
    for item in told:
        found.setdefault(item.kind, []).append(item.what)
    return found


def test_uploads_nobody_completes_or_names_go(store: Store, write: Write) -> None:
    def upload(id: str, status: str, days: float, used_days: float | None = None) -> Upload:
        at = [None if age is None else now() - timedelta(days=age) for age in (days, used_days)]
        write(f"uploads/{id}/parts/000001" if status == "open" else f"uploads/{id}/content", days_old=days)
        return Upload(id=id, status=status, created_at=at[0], used_at=at[1])

    add(
        store,
        upload("up_old", "open", 2),
        upload("up_new", "open", 0.5),
        upload("up_unused", "complete", 8),
        upload("up_fresh", "complete", 6),
        upload("up_asked", "complete", 8, used_days=1),
        upload("up_taught", "complete", 8),
        upload("up_read", "complete", 8),
        TeacherRow(id="tch_1", source={"kind": "upload", "upload": "up_taught"}, status="refused"),
        DatasetRow(id="ds_1", format="npz", status="checking", upload="up_read"),
    )
    # A part that arrived an hour ago: somebody is slow, and not gone.
    add(store, upload("up_slow", "open", 3))
    write("uploads/up_slow/parts/000002", days_old=0.04)
    assert gone(store) == {"uploads": ["up_old", "up_unused"]}
    kept = sorted(path.name for path in (store.files.root / "uploads").iterdir())
    assert kept == ["up_asked", "up_fresh", "up_new", "up_read", "up_slow", "up_taught"]


def test_an_upload_in_use_at_the_moment_is_left_for_later(
    store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, Upload(id="up_1", status="open", created_at=LONG_AGO))
    part = write("uploads/up_1/parts/000001")
    found = storage.waste(store, RETENTION)
    monkeypatch.setattr("archsearch.store.uploads.PATIENCE_S", 0.05)
    with held(store.files, "up_1", alone=False):
        assert storage.remove(found) == []
    write("uploads/up_1/parts/000002", days_old=0)  # it goes on between the look and the removal
    assert storage.remove(found) == []
    assert part.exists()


def test_an_upload_that_is_named_at_the_moment_it_is_pruned_is_either_kept_or_refused(
    store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, Upload(id="up_1", status="complete", created_at=LONG_AGO))
    write("uploads/up_1/content")
    found, named, in_use = storage.waste(store, RETENTION), threading.Event(), delete.uploads_in_use

    def name() -> None:
        with suppress(NotFound), writing(store.sessions) as session:
            queries.require(session, Upload, "up_1", lock="shared")
            session.add(TeacherRow(id="tch_1", source={"kind": "upload", "upload": "up_1"}))
        named.set()

    request = threading.Thread(target=name)

    def while_named(session: Any) -> dict[str, str]:
        used = in_use(session)
        request.start()
        named.wait(0.5)  # long enough for a request that nothing holds up
        return used

    monkeypatch.setattr(delete, "uploads_in_use", while_named)
    removed = storage.remove(found)
    request.join(30)
    with store.sessions() as session:
        named_by = session.get(TeacherRow, "tch_1")
    assert (bool(removed), named_by) == (True, None)


def test_a_job_keeps_what_it_may_go_on_from_and_what_it_made(store: Store, write: Write) -> None:
    recent = now() - timedelta(days=2)
    add(
        store,
        job("job_running", "running", None),
        job("job_failed", "failed", recent),
        job("job_forgotten", "cancelled"),
        job("job_done", "succeeded", recent),
        job("job_just_done", "succeeded", now()),
        Artifact(
            id="art_1", job_id="job_done", name="a", media_type="b", size_bytes=1, sha256="c",
            path="jobs/job_done/attempts/1/student/a",
        ),
    )  # fmt: skip
    for id in ("job_running", "job_failed", "job_forgotten", "job_done", "job_just_done"):
        write(f"jobs/{id}/checkpoints/a.safetensors")
        for attempt in (1, 2):
            write(f"jobs/{id}/attempts/{attempt}/student/a")
    assert gone(store) == {
        "attempts": [
            "jobs/job_forgotten/checkpoints", "jobs/job_forgotten/attempts/1", "jobs/job_forgotten/attempts/2",
            "jobs/job_done/checkpoints", "jobs/job_done/attempts/2",
        ]
    }  # fmt: skip
    left = sorted(path.parts[-2] for path in (store.files.root / "jobs").glob("*/checkpoints"))
    assert left == ["job_failed", "job_just_done", "job_running"]
    assert store.files.artifact("jobs/job_done/attempts/1/student/a").is_file()


def test_a_job_taken_up_again_between_look_and_removal_keeps_its_checkpoints(store: Store, write: Write) -> None:
    add(store, job("job_1", "failed"))
    checkpoint = write("jobs/job_1/checkpoints/a.safetensors")
    found = storage.waste(store, RETENTION)
    assert [item.what for item in found] == ["jobs/job_1/checkpoints"]
    with store.sessions.begin() as session:
        session.get_one(Job, "job_1").status = "queued"
    assert storage.remove(found) == []
    assert checkpoint.exists()


def test_finished_jobs_stay_for_ever_unless_an_age_is_set(store: Store, write: Write) -> None:
    add(store, job("job_1", "succeeded"), job("job_2", "succeeded", now()), job("job_3", "running", None))
    write("jobs/job_1/a")
    assert gone(store, RETENTION.older_than(1)) == {}
    assert gone(store, Retention.of(Settings(keep_jobs_days=30))) == {"jobs": ["job_1"]}
    assert not store.files.job("job_1").exists()


def test_caches_lose_what_was_not_used_for_longest(store: Store, write: Write) -> None:
    for name, days_old in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        write(f"evidence/{name}.safetensors", 400, days_old)
    write("evidence/latency-d.json", 400, 4.0)
    write("evidence/views/e/answers.npy", 400, 2.5)
    for name in ("ids", "starts"):
        write(f"evidence/tokens-g/train_{name}.npy", 200, 2.2)
    write("evidence/images-h/digest_ND.npy", 400, 2.1)
    write("evidence/f.safetensors", 400, 0.0)  # somebody may be writing it
    assert gone(store) == {
        "latencies": ["latency-d.json"],
        "evidence": ["a.safetensors", "c.safetensors"],
        "views": ["e"],
        "tokens": ["tokens-g"],
        "images": ["images-h"],
    }
    assert gone(store, RETENTION.older_than(12 * 3600)) == {"evidence": ["b.safetensors"]}
    assert (store.files.evidence / "f.safetensors").exists()


def test_what_a_killed_process_was_writing_goes_and_what_one_writes_now_stays(store: Store, write: Write) -> None:
    half = [write(f"evidence/.{name}.0123456789ab", days_old=0.1) for name in ("a.safetensors", "latency-b.json")]
    write("evidence/.tokens-d.0123456789ab/train_ids.npy", days_old=0.1)
    write("uploads/up_1/.folder.0123456789ab/model.safetensors", days_old=0.1)
    lock = write("evidence/views/.lock")
    assert storage.usage(store)["evidence"] == {"count": 1, "bytes": 10}
    assert gone(store) == {
        "evidence": [half[0].name],
        "latencies": [half[1].name],
        "tokens": [".tokens-d.0123456789ab"],
        "partial": ["uploads/up_1/.folder.0123456789ab"],
    }
    now = write("evidence/.c.safetensors.0123456789ab", days_old=0.01)
    assert gone(store, RETENTION.older_than(0)) == {}
    add(store, job("job_1", "failed"))
    write("jobs/job_1/.predictors.json.0123456789ab")
    assert gone(store) == {"attempts": ["jobs/job_1/.predictors.json.0123456789ab"]}
    assert (lock.exists(), now.exists()) == (True, True)


def test_caches_of_any_age_go_when_asked(store: Store, write: Write) -> None:
    write("evidence/a.safetensors", days_old=0.01)
    assert gone(store) == {}
    assert gone(store, RETENTION.older_than(0)) == {"evidence": ["a.safetensors"]}


def test_what_a_crash_left_is_swept_and_what_nobody_knows_is_not_touched(store: Store, write: Write) -> None:
    add(store, job("job_1", "failed", now()), DatasetRow(id="ds_2", format="npz", status="checking"))
    deleted = write("jobs/job_1/attempts/1/a")
    with store.sessions.begin() as session:
        delete.delete_job(session, "job_1")
    # The process ended here, after the row and before the files.
    half = [write(f"datasets/.ds_{n}.0123/x.npy") for n in (1, 2)]
    # Of a database that is not this one, perhaps.
    unknown = [write("jobs/job_9/a"), write("datasets/ds_9/a"), write("uploads/up_9/content")]
    assert gone(store) == {"deleted": ["files of 1 deleted"], "partial": ["datasets/.ds_1.0123"]}
    assert [path.exists() for path in (deleted, *half, *unknown)] == [False, False, True, True, True, True]


def test_two_do_not_prune_at_once(store: Store) -> None:
    with storage._alone(store.files.root / "prune.lock"), pytest.raises(Conflict, match="right now"):
        storage.prune(store, RETENTION)


def test_looking_for_waste_asks_as_little_of_many_jobs_as_of_one(store: Store) -> None:
    engine = store.sessions.kw["bind"]
    asked: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))

    def statements() -> int:
        asked.clear()
        storage.waste(store, RETENTION)
        return len(asked)

    add(store, job("job_0", "succeeded"))
    few = statements()
    add(store, *(job(f"job_{number}", "failed") for number in range(1, 30)))
    assert statements() == few
    assert not [statement for statement in asked if "jobs.result" in statement or "jobs.request" in statement]


def test_usage_counts_bytes_by_kind(store: Store, write: Write) -> None:
    add(store, Upload(id="up_1", status="complete"), job("job_1", "running", None))
    write("uploads/up_1/content", 5000)
    write("evidence/a.safetensors", 300)
    found = storage.usage(store)
    assert found["uploads"] == {"count": 1, "bytes": 5000}
    assert found["jobs"] == {"count": 1, "bytes": 0}
    assert found["evidence"] == {"count": 1, "bytes": 300}
    assert found["database"]["bytes"] > 10_000


def test_the_shell_prunes_a_data_folder_and_the_users_cache(
    store: Store, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cached = tmp_path / "cache" / "archsearch" / "evidence" / "a.safetensors"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"x" * 2000)
    os.utime(cached, (time.time() - 86_400,) * 2)
    add(store, Upload(id="up_1", status="open", created_at=LONG_AGO))
    write("uploads/up_1/parts/000001")
    command = ["prune", "--data-dir", str(store.files.root), "--older-than", "12h"]
    shown = CliRunner().invoke(app, [*command, "--dry-run"])
    assert (shown.exit_code, "2 would go, 2.01 kB" in shown.output) == (0, True), shown.output
    assert cached.exists()
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert [item["what"] for item in told["removed"]] == ["up_1", "a.safetensors"]
    assert (told["bytes"], cached.exists()) == (2010, False)
    with store.sessions.begin() as session:  # of an earlier version, which a dry run does not change
        session.execute(text("UPDATE archsearch_version SET version_num = '0001'"))
    refused = CliRunner().invoke(app, [*command, "--dry-run"])
    assert isinstance(refused.exception, Conflict)
    assert "a dry run leaves it as it is" in str(refused.exception)
    with store.sessions() as session:
        assert session.scalar(text("SELECT version_num FROM archsearch_version")) == "0001"
    wrong = CliRunner().invoke(app, ["prune", "--older-than", "30"])
    assert (wrong.exit_code, "give hours, days or weeks" in wrong.output) == (2, True)
