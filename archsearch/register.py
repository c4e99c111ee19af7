"""What jobs name is handed in before them: teachers, data sets and profiles. A row each, checked by a worker.

Asked again in the same words, or under the same `Idempotency-Key`, the answer is the row there is.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from archsearch.data.task import Task
from archsearch.engine import Engine
from archsearch.errors import Conflict, DataError, InvalidRequest, NotReady, TeacherError
from archsearch.hardware.profile import Profile
from archsearch.request import ClassMap, DatasetData, DigitsData, TimmTeacher, UploadedTeacher
from archsearch.store import queries
from archsearch.store.files import Files
from archsearch.store.models import DatasetRow, ProfileRow, TeacherRow, Upload
from archsearch.teachers import check_counts, check_source, check_weights_file, count_tensors
from archsearch.teachers.classes import order_of

Format = Literal["npz", "image_folder"]
R = TypeVar("R", TeacherRow, DatasetRow, ProfileRow)


def register_teacher(
    session: Session,
    engine: Engine,
    files: Files,
    source: TimmTeacher | UploadedTeacher,
    *,
    name: str | None,
    data: DigitsData | DatasetData | None,
    idempotency_key: str | None = None,
) -> TeacherRow:
    """Keep a teacher and queue the check that only torch can make."""
    row = TeacherRow(
        id=queries.new_id("tch"),
        name=name,
        source=source.model_dump(mode="json"),
        data=None if data is None else data.model_dump(mode="json"),
        idempotency_key=idempotency_key,
    )
    if (earlier := _earlier(session, row, "name", "source", "data")) is not None:
        return earlier
    check_source(source)
    if isinstance(source, UploadedTeacher):
        upload = completed_upload(session, source.upload, "source.upload")
        weights = files.upload(upload.id)
        check_weights_file(weights, field="source.upload")
        check_counts(source.model_args, "source.model_args", tensors=count_tensors(weights))
    if isinstance(data, DatasetData):
        known = ready_dataset(session, data.id, field="data.id")
        if isinstance(source, UploadedTeacher):
            task = task_of(known)
            check_classes(source.class_names, source.num_classes, task, source.classes, "source")
            check_channels(source.in_chans, task, "source")
    return _keep(session, engine, "teacher", row, "name", "source", "data")


def recheck_teacher(session: Session, engine: Engine, teacher_id: str) -> TeacherRow:
    """Check a refused teacher again; one that is being checked is left to that, and a ready one is a Conflict."""
    row: TeacherRow = queries.require(session, TeacherRow, teacher_id)
    if row.status == "ready":
        raise Conflict(f"{teacher_id} is ready")
    # Of two requests at once, the second waits here for the end of the first, and finds the check asked for.
    refused = update(TeacherRow).where(TeacherRow.id == teacher_id, TeacherRow.status == "refused")
    if session.execute(refused.values(status="checking", error=None, attempt=0)).rowcount:  # type: ignore[attr-defined]
        engine.enqueue_again(session, "teacher", row.id, row.id, lane="light")
    session.refresh(row)
    return row


def register_dataset(
    session: Session,
    engine: Engine,
    *,
    upload_id: str,
    format: Format,
    name: str | None,
    options: dict[str, Any],
    idempotency_key: str | None = None,
) -> DatasetRow:
    """Keep a data set and queue its reading; content that was read so before is the data set there is.

    Args:
        options: Of `load_image_folder` or `load_npz`, by name, as plain JSON.
    """
    upload = completed_upload(session, upload_id, "upload")
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
    if (earlier := _earlier(session, row, *asked)) is not None:
        return earlier
    same = select(DatasetRow).where(DatasetRow.question == row.question)
    if (known := session.scalar(same)) is not None:
        return known
    return _keep(session, engine, "dataset", row, *asked, other=same)


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


def completed_upload(session: Session, upload_id: str, field: str) -> Upload:
    """The upload, which stays as long as the transaction lasts; raises Conflict unless it is complete."""
    upload: Upload = queries.require(session, Upload, upload_id, field=field, lock="shared")
    if upload.status != "complete":
        raise Conflict(f"upload {upload_id} is not complete; POST /v1/uploads/{upload_id}:complete first", field=field)
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


def task_of(row: DatasetRow) -> Task:
    """The task a stored data set defines."""
    task: Task = TypeAdapter(Task).validate_python(row.task)
    return task


def check_classes(names: list[str] | None, num_classes: int, task: Task, given: ClassMap | None, field: str) -> None:
    """Hold what is known of a head against the data: how many classes, what they are called, and who is who."""
    if given is None and num_classes != task.classes:
        raise TeacherError(f"the teacher knows {num_classes} classes, the data has {task.classes}", field=field)
    if names:  # else a worker may find some in the teacher's own configuration
        order_of("the teacher", (tuple(names),), num_classes, task, given, field=field)


def check_channels(in_chans: int, task: Task, field: str) -> None:
    if in_chans != task.in_chans:
        raise TeacherError(f"the teacher knows {in_chans} channels, the data has {task.in_chans}", field=field)


def _earlier(session: Session, row: R, *asked: str) -> R | None:
    """The row an earlier request with the same key made; raises InvalidRequest if that asked for something else."""
    found: R | None = queries.by_key(session, type(row), row.idempotency_key)
    if found is not None and any(getattr(found, name) != getattr(row, name) for name in asked):
        raise InvalidRequest("was used for another request; choose a new one", field="Idempotency-Key")
    return found


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
