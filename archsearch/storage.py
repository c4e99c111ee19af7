"""What lies in a data folder and a user's cache, and what of it nobody needs any more.

Nothing is removed that a row still counts on: what a job may go on from stays until the job has ended and its retention
is over, and the row is asked once more, under its lock, before anything goes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from archsearch.errors import Conflict, NotFound
from archsearch.outfolder import STUDENTS
from archsearch.settings import Settings
from archsearch.store.database import writing
from archsearch.store.delete import delete_job, remove_upload, sweep, uploads_in_use
from archsearch.store.files import Files
from archsearch.store.models import TERMINAL, Artifact, DatasetRow, Job, Leftover, Upload, now
from archsearch.whole import is_partial

log = logging.getLogger(__name__)

# What an attempt goes on from, in a job's folder.
WORK = ("checkpoints", "baseline", "verify", STUDENTS, "predictors.json")
# A file this young may still be being written, by whatever name.
_YOUNG_S = 3600.0
# Begin the names of a cache's folders that are of one data set, and no use in parts.
_WHOLE = ("tokens", "images")


@dataclass(frozen=True)
class Retention:
    """How long is kept what somebody may still come back for; None keeps it for ever. Seconds and bytes."""

    open_uploads_s: float
    unused_uploads_s: float
    failed_s: float
    caches_bytes: int
    caches_s: float | None = None
    jobs_s: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> Retention:
        day_s = 86_400.0
        return cls(
            open_uploads_s=3600 * settings.keep_open_uploads_h,
            unused_uploads_s=day_s * settings.keep_unused_uploads_days,
            failed_s=day_s * settings.keep_failed_days,
            caches_bytes=settings.keep_cache_bytes,
            jobs_s=None if settings.keep_jobs_days is None else day_s * settings.keep_jobs_days,
        )

    def older_than(self, age_s: float) -> Retention:
        """Everything unused for so long, caches included; finished jobs as before."""
        return replace(self, open_uploads_s=age_s, unused_uploads_s=age_s, failed_s=age_s, caches_s=age_s)


@dataclass(frozen=True)
class Waste:
    """Something nobody needs: what it is, where, and why it may go."""

    kind: str
    what: str
    size_bytes: int
    why: str
    remove: Callable[[], object] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Store:
    """A service's database and data folder."""

    sessions: sessionmaker[Session]
    files: Files


@dataclass(frozen=True)
class _Rows:
    """What the tables say of files, read at once: not the rows themselves, whose results and requests may be long."""

    leftovers: Sequence[str]
    uploads: Sequence[Upload]
    used: Mapping[str, str]
    ended: Sequence[Any]
    published: Mapping[str, Sequence[str]]
    reading: Set[str]

    @classmethod
    def read(cls, session: Session) -> _Rows:
        published: dict[str, list[str]] = {}
        for job_id, path in session.execute(select(Artifact.job_id, Artifact.path)):
            published.setdefault(job_id, []).append(path)
        ended = select(Job.id, Job.status, Job.created_at, Job.finished_at).where(Job.status.in_(TERMINAL))
        return cls(
            leftovers=session.scalars(select(Leftover.path)).all(),
            uploads=session.scalars(select(Upload)).all(),
            used=uploads_in_use(session),
            ended=session.execute(ended).all(),
            published=published,
            reading=set(session.scalars(select(DatasetRow.id).where(DatasetRow.status == "checking"))),
        )


def waste(store: Store, retention: Retention) -> list[Waste]:
    """Everything in a data folder that may go, each thing once."""
    with store.sessions() as session:
        rows = _Rows.read(session)
    # Walking through folders takes its time: no connection is held meanwhile.
    found = [
        *_leftovers(store, rows.leftovers),
        *_uploads(store, rows, retention),
        *_jobs(store, rows, retention),
        *_partial(store, rows.reading),
    ]
    return [*found, *cache_waste(store.files.evidence, retention)]


def prune(store: Store, retention: Retention) -> list[Waste]:
    """Remove what may go; returns what went. Raises Conflict while another process prunes the folder."""
    with _alone(store.files.root / "prune.lock"):
        return remove(waste(store, retention))


def prune_now_and_then(store: Store, retention: Retention, every_s: float) -> None:
    """Prune now and every so often, for ever; for a thread of a worker."""
    while True:
        try:
            removed = prune(store, retention)
        except Conflict:  # another worker is at it
            removed = []
        except Exception:  # the database may be away for a while
            log.warning("could not make room", exc_info=True)
            removed = []
        if removed:
            log.info(
                "%d things nobody needs are gone, %d bytes", len(removed), sum(each.size_bytes for each in removed)
            )
        time.sleep(every_s)


def remove(found: Sequence[Waste]) -> list[Waste]:
    """Remove these, each by itself; one that cannot be removed now is left for the next time."""
    removed = []
    for item in found:
        try:
            if item.remove() is not False:
                removed.append(item)
        except (OSError, Conflict, NotFound) as error:
            log.warning("%s is left for later: %s", item.what, error)
    return removed


def usage(store: Store) -> dict[str, dict[str, int]]:
    """Bytes and counts of everything kept, by kind."""
    root = store.files.root
    with store.sessions() as session:
        counts = {
            table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
            for table in (Upload, DatasetRow, Job)
        }
    sizes = {name: size_of(root / name) for name in counts}
    found = {name: {"count": counts[name], "bytes": sizes[name]} for name in counts}
    for kind, entries in _cached(store.files.evidence).items():
        found[kind] = {"count": len(entries), "bytes": sum(entry.size_bytes for entry in entries)}
    database = [size_of(path) for path in root.glob("*.db*")]
    return {**found, "database": {"count": len(database), "bytes": sum(database)}}


def size_of(path: Path) -> int:
    """Bytes on the disk below a path; files that go away meanwhile count nothing."""
    total = 0
    with suppress(OSError):
        if not path.is_dir() or path.is_symlink():
            return _taken(path.lstat())
        with os.scandir(path) as entries:
            for entry in entries:
                total += _size_of_entry(entry)
    return total


def _size_of_entry(entry: os.DirEntry[str]) -> int:
    # By what listing its folder has told of it, as far as that goes: there may be many.
    with suppress(OSError):
        return (
            size_of(Path(entry.path))
            if entry.is_dir(follow_symlinks=False)
            else _taken(entry.stat(follow_symlinks=False))
        )
    return 0


def _taken(stat: os.stat_result) -> int:
    # Blocks, as mapped files may have holes.
    return min(stat.st_size, 512 * stat.st_blocks)


# ---------------------------------------------------------------------------------------------- a service's own


def _leftovers(store: Store, paths: Sequence[str]) -> Iterator[Waste]:
    if paths:
        size_bytes = sum(size_of(store.files.artifact(path)) for path in paths)
        why = "their rows were deleted"
        yield Waste("deleted", f"files of {len(paths)} deleted", size_bytes, why, lambda: sweep(*_parts(store)))


def _uploads(store: Store, rows: _Rows, retention: Retention) -> Iterator[Waste]:
    for upload in rows.uploads:
        idle_s = _idle_s(store, upload)
        opened = upload.status != "complete"
        keep_s = retention.open_uploads_s if opened else retention.unused_uploads_s
        if idle_s <= keep_s or upload.id in rows.used:
            continue
        why = f"{'never completed' if opened else 'named by nothing'}, untouched for {_days(idle_s)}"
        size_bytes = size_of(store.files.upload(upload.id).parent)
        yield Waste("uploads", upload.id, size_bytes, why, _remover(store, upload.id, keep_s))


def _remover(store: Store, upload_id: str, keep_s: float) -> Callable[[], object]:
    def gone() -> bool:
        touched = lambda upload: _idle_s(store, upload) <= keep_s  # noqa: E731
        done = remove_upload(lambda: writing(store.sessions), store.files, upload_id, unless=touched)
        sweep(*_parts(store))
        return done

    return gone


def _idle_s(store: Store, upload: Upload) -> float:
    """Seconds since anybody did anything with an upload."""
    last = max(upload.created_at, upload.used_at or upload.created_at)
    with suppress(OSError):
        parts = store.files.upload_parts(upload.id)
        last = max(last, datetime.fromtimestamp(parts.stat().st_mtime, last.tzinfo))
    return (now() - last).total_seconds()


def _jobs(store: Store, rows: _Rows, retention: Retention) -> Iterator[Waste]:
    for job in rows.ended:
        age_s = (now() - (job.finished_at or job.created_at)).total_seconds()
        if retention.jobs_s is not None and age_s > retention.jobs_s:
            size_bytes = size_of(store.files.job(job.id))
            yield Waste("jobs", job.id, size_bytes, f"ended {_days(age_s)} ago", _job_remover(store, job.id))
            continue
        if job.status != "succeeded" and age_s <= retention.failed_s:
            continue  # it may be asked to go on
        if age_s <= min(_YOUNG_S, retention.failed_s):
            continue  # its last attempt may still be tidying up
        why = "superseded" if job.status == "succeeded" else f"{job.status} {_days(age_s)} ago"
        for path in _unpublished(store, job.id, rows.published.get(job.id, ())):
            where = store.files.relative(path)
            yield Waste("attempts", where, size_of(path), why, _work_remover(store, job.id, path))


def _unpublished(store: Store, job_id: str, paths: Sequence[str]) -> Iterator[Path]:
    """What a job that has ended was going on from, and attempts that none of its artifacts lies in."""
    folder = store.files.job(job_id)
    published = [store.files.artifact(path) for path in paths]
    attempts = sorted((folder / "attempts").iterdir()) if (folder / "attempts").is_dir() else []
    partial = [path for path in _listed(folder) if is_partial(path)]
    for path in (*(folder / name for name in WORK), *partial, *attempts):
        if path.exists() and not any(artifact.is_relative_to(path) for artifact in published):
            yield path


def _job_remover(store: Store, job_id: str) -> Callable[[], object]:
    def gone() -> None:
        with writing(store.sessions) as session:
            delete_job(session, job_id)
        sweep(*_parts(store))

    return gone


def _work_remover(store: Store, job_id: str, path: Path) -> Callable[[], object]:
    """Removes part of an ended job's folder, unless the job was taken up again or published it meanwhile."""

    def gone() -> bool:
        trash = path.with_name(f".trash-{uuid.uuid4().hex}")
        with writing(store.sessions) as session:
            # A write, so that nobody takes the job up again before the files are out of its way.
            ended = (Job.id == job_id, Job.status.in_(TERMINAL))
            if not session.execute(update(Job).where(*ended).values(id=job_id)).rowcount:  # type: ignore[attr-defined]
                return False
            if any(
                store.files.artifact(kept).is_relative_to(path)
                for kept in session.scalars(select(Artifact.path).where(Artifact.job_id == job_id))
            ):
                return False
            session.merge(Leftover(path=store.files.relative(trash)))
            os.replace(path, trash)
        sweep(*_parts(store))
        return True

    return gone


def _partial(store: Store, reading: Set[str]) -> Iterator[Waste]:
    """What a process that was killed in the middle of writing a data set or unpacking a teacher left behind."""
    for path in (*store.files.root.glob("datasets/.ds_*"), *store.files.root.glob("uploads/*/.folder.*")):
        if path.name.split(".")[1] not in reading and _age_s(path) > _YOUNG_S:
            yield Waste("partial", store.files.relative(path), size_of(path), "half written", _tree_remover(path))


# ---------------------------------------------------------------------------------------------- caches


@dataclass(frozen=True)
class _Cached:
    path: Path
    size_bytes: int
    used_at: float


def cache_waste(folder: Path, retention: Retention) -> Iterator[Waste]:
    """What in a cache is beyond its bytes, least recently used first, or too old; all of it can be made again."""
    entries = [(kind, entry) for kind, found in _cached(folder).items() for entry in found]
    entries.sort(key=lambda each: each[1].used_at)
    surplus = sum(entry.size_bytes for _, entry in entries) - retention.caches_bytes
    for kind, entry in entries:
        idle_s = time.time() - entry.used_at
        half = is_partial(entry.path)
        old = half or (retention.caches_s is not None and idle_s > retention.caches_s)
        # What is whole may go at any time; a partial that went would fail its writer.
        young_s = _YOUNG_S if half or retention.caches_s is None else min(_YOUNG_S, retention.caches_s)
        if (surplus > 0 or old) and idle_s > young_s:
            surplus -= entry.size_bytes
            why = "half written" if half else f"unused for {_days(idle_s)}" + ("" if old else ", and the cache is full")
            yield Waste(kind, entry.path.name, entry.size_bytes, why, _tree_remover(entry.path))


def _cached(folder: Path) -> Mapping[str, Sequence[_Cached]]:
    """A cache's entries by kind: teachers' evidence, devices' latencies, what trainings compute in, answers to views,
    texts as tokens, and what was found in image files."""
    found: dict[str, list[_Cached]] = {"evidence": [], "latencies": [], "precisions": [], "views": []}
    found |= {kind: [] for kind in _WHOLE}
    for path in (path for path in _listed(folder) if _counts(path)):
        kind = path.name.removeprefix(".").partition("-")[0]
        if kind in _WHOLE and path.is_dir():
            found[kind].append(_entry(path))
        elif path.is_dir():
            found["views"] += [_entry(each) for each in _listed(path) if _counts(each)]
        else:
            first = path.name.removeprefix(".").partition("-")[0]
            kind = {"latency": "latencies", "precision": "precisions"}.get(first, "evidence")
            found[kind].append(_entry(path))
    return found


def _counts(path: Path) -> bool:
    return is_partial(path) or not path.name.startswith(".")  # else a lock, say


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _entry(path: Path) -> _Cached:
    return _Cached(path, size_of(path), max((_used_at(each) for each in (path, *_listed(path))), default=0.0))


def _used_at(path: Path) -> float:
    """When a file was last read or written, or a folder marked as in use: to list one is to read it."""
    with suppress(OSError):
        stat = path.stat()
        return stat.st_mtime if path.is_dir() else max(stat.st_mtime, stat.st_atime)
    return 0.0


def _tree_remover(path: Path) -> Callable[[], object]:
    # A process that has it open or mapped goes on with what it has.
    return lambda: shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _days(seconds: float) -> str:
    """`3 days`, `5 h`: for people."""
    days = timedelta(seconds=seconds) / timedelta(days=1)
    return f"{days:.0f} days" if days >= 2 else f"{seconds / 3600:.0f} h"


def _parts(store: Store) -> tuple[sessionmaker[Session], Files]:
    return store.sessions, store.files


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("another process is pruning this folder right now") from None
        yield
