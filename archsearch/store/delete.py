"""Deletion: refused while something needs the row; the row goes first, its files after the commit.

Files are noted in the same transaction that deletes their row, so that whatever happens afterwards a sweep finds them.
Nothing here removes a file that no such note names.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, sessionmaker

from archsearch.errors import Conflict
from archsearch.store import queries
from archsearch.store.files import Files
from archsearch.store.models import (
    TERMINAL,
    Candidate,
    DatasetRow,
    Event,
    Job,
    Leftover,
    ProfileRow,
    TeacherRow,
    Upload,
)
from archsearch.store.uploads import Transaction, held

log = logging.getLogger(__name__)

# Rows that are removed in one transaction, in tens of milliseconds, and how long others are left to write before the
# next: who waits for SQLite's lock looks every tenth of a second.
_AT_ONCE, _GIVE_WAY_S = 2000, 0.1


def delete_job(session: Session, job_id: str) -> None:
    """Delete a job that has ended, with its artifacts; raises Conflict for any other.

    A sweep removes its candidates and events: there may be many.
    """
    job: Job = _locked(session, Job, job_id)
    if job.status not in TERMINAL:
        raise Conflict(f"job {job_id} is {job.status}; POST /v1/jobs/{job_id}:cancel and wait for its end first")
    for other in _unfinished(session):
        student = other.request.get("student") or {}
        if student.get("job") == job_id:
            raise Conflict(f"job {other.id} is {other.status} and distils candidate {student['candidate']} of {job_id}")
    # The condition again: another transaction may have taken it up meanwhile.
    gone = delete(Job).where(Job.id == job_id, Job.status.in_(TERMINAL))
    if not session.execute(gone).rowcount:  # type: ignore[attr-defined]
        raise Conflict(f"job {job_id} goes on again")
    _leave(session, f"jobs/{job_id}")


def delete_teacher(session: Session, teacher_id: str) -> None:
    """Delete a teacher; its check, if it is under way, stops. Raises Conflict while a job needs it."""
    row: TeacherRow = _locked(session, TeacherRow, teacher_id)
    _refuse_if_needed(session, teacher_id, "teacher", lambda request: (request.get("teacher") or {}).get("id"))
    _refuse_if_needed(session, teacher_id, "teacher", lambda request: _network_of(request, teacher_id))
    session.delete(row)


def _network_of(request: dict[str, Any], teacher_id: str) -> str | None:
    """The teacher, where its network is one of those with weights that a job may take for a student."""
    named = (request.get("search") or {}).get("pretrained") or ()
    return next((one["id"] for one in named if one.get("id") == teacher_id), None)


def delete_dataset(session: Session, dataset_id: str) -> None:
    """Delete a data set; its reading, if it is under way, stops. Raises Conflict while a job or a check needs it."""
    row: DatasetRow = _locked(session, DatasetRow, dataset_id)
    _refuse_if_needed(session, dataset_id, "data set", lambda request: (request.get("data") or {}).get("id"))
    for teacher in session.scalars(select(TeacherRow).where(TeacherRow.status == "checking")):
        if (teacher.data or {}).get("id") == dataset_id:
            raise Conflict(f"teacher {teacher.id} is being measured on {dataset_id}; wait for that, or delete it first")
    session.delete(row)
    _leave(session, f"datasets/{dataset_id}")


def delete_profile(session: Session, profile_id: str) -> None:
    """Delete a profile; its fit, if it is under way, stops. Raises Conflict while a job needs it."""
    row: ProfileRow = _locked(session, ProfileRow, profile_id)
    _refuse_if_needed(session, profile_id, "profile", lambda request: (request.get("budget") or {}).get("device"))
    session.delete(row)


def delete_upload(session: Session, upload_id: str) -> None:
    """Delete an upload, complete or not; raises Conflict while a teacher or a data set's reading needs it.

    Call it holding the upload's lock alone.
    """
    row: Upload = _locked(session, Upload, upload_id)
    user = uploads_in_use(session).get(upload_id)
    if user is not None:
        raise Conflict(f"{user} needs upload {upload_id}; delete that first")
    session.delete(row)
    _leave(session, f"uploads/{upload_id}")


def uploads_in_use(session: Session) -> dict[str, str]:
    """Uploads by id that something cannot do without: teachers, and data sets that are still being read."""
    teachers = session.execute(select(TeacherRow.source, TeacherRow.id))
    uploaded = ((source.get("upload"), id) for source, id in teachers)
    reading = session.execute(select(DatasetRow.upload, DatasetRow.id).where(DatasetRow.status == "checking"))
    read = {str(upload): f"data set {id}, which is being read," for upload, id in reading}
    return {**read, **{upload: f"teacher {id}" for upload, id in uploaded if upload is not None}}


def remove_upload(
    transaction: Transaction, files: Files, upload_id: str, *, unless: Callable[[Upload], bool] | None = None
) -> bool:
    """Delete an upload in a transaction of its own, with nobody sending parts meanwhile.

    Args:
        unless: Of the row as it is then, whether to leave it after all; false is returned.
    """
    with transaction() as session:  # no lock, and no folder for it, for an upload nobody opened
        queries.require(session, Upload, upload_id)
    with held(files, upload_id, alone=True), transaction() as session:
        if unless is not None and unless(_locked(session, Upload, upload_id)):
            return False
        delete_upload(session, upload_id)
        return True


def sweep(sessions: sessionmaker[Session], files: Files, *, within_s: float = math.inf) -> int:
    """Remove the files of all rows that were deleted, and jobs' candidates and events; returns how many that were.

    Args:
        within_s: After so long what is left is left for the next sweep.
    """
    until = time.monotonic() + within_s
    with sessions() as session:
        paths = session.scalars(select(Leftover.path)).all()
    return sum(_remove(sessions, files, path, until) for path in paths)


def _remove(sessions: sessionmaker[Session], files: Files, path: str, until: float) -> bool:
    target = files.artifact(path)
    if target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)
    if target.exists():  # the next sweep tries again
        log.warning("%s cannot be removed", target)
        return False
    folder, _, id = path.partition("/")
    if folder == "jobs" and "/" not in id and not _remove_rows(sessions, id, until):
        return False
    with sessions.begin() as session:
        session.execute(delete(Leftover).where(Leftover.path == path))
    return True


def _remove_rows(sessions: sessionmaker[Session], job_id: str, until: float) -> bool:
    """A deleted job's candidates and events, some at a time, as others want to write; false if some are left."""
    for table, number in ((Candidate, Candidate.number), (Event, Event.seq)):
        mine = table.job_id == job_id
        while True:
            with sessions.begin() as session:
                first = session.scalar(select(func.min(number)).where(mine))
                if first is None:
                    break
                session.execute(delete(table).where(mine, number < first + _AT_ONCE))
            if time.monotonic() > until:
                return False
            time.sleep(_GIVE_WAY_S)
    return True


def _leave(session: Session, path: str) -> None:
    session.merge(Leftover(path=path))
    session.flush()


def _locked(session: Session, table: type[Any], id: str) -> Any:
    """The row, which no other transaction changes or relies on before this one ends; raises NotFound."""
    return queries.require(session, table, id, lock="alone")


def _unfinished(session: Session) -> list[Job]:
    return list(session.scalars(select(Job).where(Job.status.not_in(TERMINAL)).order_by(Job.created_at)))


def _refuse_if_needed(session: Session, id: str, noun: str, named: Callable[[dict[str, Any]], Any]) -> None:
    needing = [job for job in _unfinished(session) if named(job.request) == id]
    if needing:
        others = f" and {len(needing) - 1} more" if len(needing) > 1 else ""
        raise Conflict(
            f"job {needing[0].id}{others} is {needing[0].status} and needs {noun} {id}; wait for its end, or cancel it"
        )
