"""What jobs name is handed in before them: teachers, data sets and profiles. A row each, checked by a worker.

Asked again in the same words, or under the same `Idempotency-Key`, the answer is the row there is.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from archsearch import domains
from archsearch.data.task import Task
from archsearch.domains.images.digits import DIGITS
from archsearch.engine import Engine
from archsearch.errors import Conflict, DataError, Gone, InvalidRequest, NotReady
from archsearch.hardware.profile import Profile
from archsearch.request import (
    Budget,
    DatasetData,
    DigitsData,
    OnnxTeacher,
    TeacherSource,
    TimmTeacher,
    UploadedFolder,
    UploadedTeacher,
)
from archsearch.store import queries
from archsearch.store.files import Files
from archsearch.store.models import DatasetRow, ProfileRow, TeacherRow, Upload
from archsearch.teachers import check_counts, check_onnx_file, check_source, check_weights_file
from archsearch.teachers.archive import describe_archive
from archsearch.teachers.facts import check_facts

Source = TimmTeacher | UploadedTeacher | UploadedFolder | OnnxTeacher
R = TypeVar("R", TeacherRow, DatasetRow, ProfileRow)
_SOURCES: TypeAdapter[Any] = TypeAdapter(TeacherSource)


def check_teacher(
    session: Session,
    files: Files,
    source: Source,
    data: DigitsData | DatasetData | None,
    *,
    idempotency_key: str | None = None,
) -> dict[str, Any]:
    """What can be told of a teacher without torch; raises what `register_teacher` raises. Writes nothing."""
    if queries.by_key(session, TeacherRow, idempotency_key) is None:
        return _check_source(files, source, _named_task(session, files, source, data))
    return {}


def register_teacher(
    session: Session,
    engine: Engine,
    files: Files,
    source: Source,
    *,
    name: str | None,
    data: DigitsData | DatasetData | None,
    idempotency_key: str | None = None,
    told: dict[str, Any] | None = None,
) -> TeacherRow:
    """Keep a teacher and queue the check that only torch can make.

    Args:
        told: What `check_teacher` returned a moment ago, whose work need not hold up others who want to write.
    """
    row = TeacherRow(
        id=queries.new_id("tch"),
        name=name,
        source=source.model_dump(mode="json"),
        data=None if data is None else data.model_dump(mode="json"),
        idempotency_key=idempotency_key,
    )
    if (earlier := _earlier(session, row, "name", "source", "data")) is not None:
        return earlier
    task = _named_task(session, files, source, data)
    row.facts = (_check_source(files, source, task) if told is None else told) or None
    return _keep(session, engine, "teacher", row, "name", "source", "data")


def recheck_teacher(session: Session, engine: Engine, teacher_id: str) -> TeacherRow:
    """Check a refused teacher again; one that is being checked is left to that, and a ready one is a Conflict.

    Raises NotFound where the data set it is measured on was deleted.
    """
    row: TeacherRow = queries.require(session, TeacherRow, teacher_id)
    if row.status == "ready":
        raise Conflict(f"{teacher_id} is ready")
    if row.data is not None and row.data["kind"] == "dataset":
        ready_dataset(session, row.data["id"], field="data.id")
    # Of two requests at once, the second waits here for the end of the first, and finds the check asked for.
    refused = update(TeacherRow).where(TeacherRow.id == teacher_id, TeacherRow.status == "refused")
    if session.execute(refused.values(status="checking", error=None, attempt=0)).rowcount:  # type: ignore[attr-defined]
        engine.enqueue_again(session, "teacher", row.id, row.id, lane="light")
    session.refresh(row)
    return row


def register_dataset(
    session: Session,
    engine: Engine,
    files: Files,
    *,
    upload_id: str,
    format: str,
    name: str | None,
    options: dict[str, Any],
    idempotency_key: str | None = None,
) -> DatasetRow:
    """Keep a data set and queue its reading; content that was read so before is the data set there is.

    One that was read and whose files are lost since is read again, from this upload.

    Args:
        format: The `kind` of one of `request.FileData`.
        options: Its other fields but `path`, as plain JSON.
    """
    upload = completed_upload(session, files, upload_id, "upload")
    row = DatasetRow(
        id=queries.new_id("ds"),
        name=name,
        format=format,
        upload=upload_id,
        options=options,
        question=_hash([upload.sha256, format, options]),
        idempotency_key=idempotency_key,
    )
    asked = ("format", "upload", "options")
    same = select(DatasetRow).where(DatasetRow.question == row.question)
    known = _earlier(session, row, *asked) or session.scalar(same)
    if known is None:
        return _keep(session, engine, "dataset", row, *asked, other=same)
    if known.status == "ready" and not domains.is_whole(files.dataset(known.id)):
        _read_again(session, engine, known, upload_id)
    return known


def register_profile(
    session: Session, engine: Engine, profile: Profile, *, name: str | None, idempotency_key: str | None = None
) -> ProfileRow:
    """Keep latencies measured elsewhere and queue the fit of their predictors."""
    row = ProfileRow(
        id=queries.new_id("prf"),
        name=name or profile.name,
        body=profile.model_dump(mode="json"),
        idempotency_key=idempotency_key,
    )
    if (earlier := _earlier(session, row, "name", "body")) is not None:
        return earlier
    return _keep(session, engine, "profile", row, "name", "body")


def completed_upload(session: Session, files: Files, upload_id: str, field: str) -> Upload:
    """The upload, which stays as long as the transaction lasts; raises Conflict unless it is complete, and Gone where
    its content is lost."""
    upload: Upload = queries.require(session, Upload, upload_id, field=field, lock="shared")
    if upload.status != "complete":
        raise Conflict(f"upload {upload_id} is not complete; POST /v1/uploads/{upload_id}:complete first", field=field)
    if not files.upload(upload_id).is_file():
        raise Gone(f"the content of {upload_id} is gone; upload it again", field=field)
    return upload


def ready_dataset(session: Session, dataset_id: str, *, field: str) -> DatasetRow:
    """A data set that was read; raises NotReady while it is checked, and DataError if it was refused."""
    row: DatasetRow = queries.require(session, DatasetRow, dataset_id, field=field, lock="shared")
    if row.status == "checking":
        raise NotReady(f"data set {row.id} is still being checked ({row.progress:.0%})", field=field)
    if row.status == "refused":
        raise DataError(f"data set {row.id} was refused: {(row.error or {}).get('detail')}", field=field)
    return row


def ready_profile(session: Session, profile_id: str, *, field: str) -> Profile:
    """A profile with its predictors; raises NotReady while they are fitted, and InvalidRequest if it was refused."""
    row: ProfileRow = queries.require(session, ProfileRow, profile_id, field=field, lock="shared")
    if row.status == "checking":
        raise NotReady(f"profile {row.id} is still being checked", field=field)
    if row.status == "refused":
        raise InvalidRequest(f"profile {row.id} was refused: {(row.error or {}).get('detail')}", field=field)
    profile = Profile.model_validate(row.body)
    return profile if row.predictors is None else profile.knowing(row.predictors)


def profile_of(session: Session, budget: Budget) -> Profile | None:
    """The profile that was handed in and a budget's device names, if it names one."""
    named = budget.device.startswith("prf_")
    return ready_profile(session, budget.device, field="budget.device") if named else None


def task_of(row: DatasetRow) -> Task:
    """The task a stored data set defines."""
    return domains.read_task(row.task)


def _named_task(
    session: Session,
    files: Files,
    source: Source,
    data: DigitsData | DatasetData | None,
) -> Task | None:
    """The task of the data set a teacher names. That and its upload stay as long as the transaction lasts."""
    if not isinstance(source, TimmTeacher):
        completed_upload(session, files, source.upload, "source.upload")
    if isinstance(data, DigitsData):
        return DIGITS
    return None if data is None else task_of(ready_dataset(session, data.id, field="data.id"))


def _check_source(files: Files, source: Source, task: Task | None) -> dict[str, Any]:
    """What is known of a teacher before anybody has loaded it, held against the data it is to be measured on."""
    told: dict[str, Any] = {}
    if isinstance(source, UploadedFolder):
        told = describe_archive(files.upload(source.upload), field="source.upload")
    elif isinstance(source, OnnxTeacher):
        check_onnx_file(files.upload(source.upload), field="source.upload")
    else:
        check_source(source)
    if isinstance(source, UploadedTeacher):
        tensors = check_weights_file(files.upload(source.upload), field="source.upload")
        check_counts(source.model_args, "source.model_args", tensors=tensors)
    if task is not None:
        check_facts({**told, **source.model_dump()}, task, source.classes, field="source")
    return told


def _read_again(session: Session, engine: Engine, row: DatasetRow, upload_id: str) -> None:
    """Queue another reading of a data set that was ready; of two requests at once, one does."""
    ready = update(DatasetRow).where(DatasetRow.id == row.id, DatasetRow.status == "ready")
    fresh = {"status": "checking", "upload": upload_id, "progress": 0.0, "attempt": 0}
    if session.execute(ready.values(**fresh)).rowcount:  # type: ignore[attr-defined]
        engine.enqueue_again(session, "dataset", row.id, row.id, lane="light")
    session.refresh(row)


def _earlier(session: Session, row: R, *asked: str) -> R | None:
    """The row an earlier request with the same key made; raises InvalidRequest if that asked for something else."""
    found: R | None = queries.by_key(session, type(row), row.idempotency_key)
    if found is not None and any(_said(found, name) != _said(row, name) for name in asked):
        raise InvalidRequest("was used for another request; choose a new one", field="Idempotency-Key")
    return found


def _said(row: R, name: str) -> Any:
    """What a row was asked to be; one that was kept before a field existed says its default of it."""
    value = getattr(row, name)
    of_teacher = isinstance(row, TeacherRow) and name == "source"
    return _SOURCES.validate_python(value).model_dump(mode="json") if of_teacher else value


def _keep(session: Session, engine: Engine, workflow: str, row: R, *asked: str, other: Any = None) -> R:
    """Insert the row and queue its check, or give back the row that another request made this very moment."""
    if queries.insert_once(session, row):
        engine.enqueue(session, workflow, row.id, row.id, lane="light")
        kept: R = session.get_one(type(row), row.id)
        return kept
    found = _earlier(session, row, *asked)
    if found is None and other is not None:
        found = session.scalar(other)
    if found is None:  # it was refused between two statements
        raise NotReady("the same request is being handled right now")
    return found


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
