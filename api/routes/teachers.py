"""Teachers: a timm name, uploaded weights or an uploaded folder, checked by a worker before any job relies on them."""

from __future__ import annotations

from typing import Annotated

from fastapi import BackgroundTasks, Query, Response

from archsearch import register
from archsearch.store import delete, queries
from archsearch.store.models import TeacherRow

from ..deps import Key, ServicesDep
from ..room import Room
from ..schemas import Page, TeacherAnswer, TeacherBody

router = Room(prefix="/teachers", tags=["teachers"])


@router.post("", status_code=202)
def create(body: TeacherBody, response: Response, services: ServicesDep, idempotency_key: Key = None) -> TeacherAnswer:
    """Register a teacher. Its status goes from `checking` to `ready`, or to `refused` with a problem in `error`."""
    with services.reading() as session:
        told = register.check_teacher(session, services.files, body.source, body.data, idempotency_key=idempotency_key)
    with services.transaction() as session:
        row = register.register_teacher(
            session,
            services.engine,
            services.files,
            body.source,
            name=body.name,
            data=body.data,
            idempotency_key=idempotency_key,
            told=told,
        )
    response.headers["Location"] = f"/v1/teachers/{row.id}"
    response.headers["Retry-After"] = "1"
    return TeacherAnswer.model_validate(row)


@router.get("")
def list_teachers(
    services: ServicesDep, after: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Page[TeacherAnswer]:
    with services.reading() as session:
        rows, next_after = queries.page(session, TeacherRow, after=after, limit=limit)
    data = [TeacherAnswer.model_validate(row) for row in rows]
    return Page(data=data, has_more=next_after is not None, next_after=next_after)


@router.get("/{teacher_id}")
def get(teacher_id: str, services: ServicesDep) -> TeacherAnswer:
    with services.reading() as session:
        return TeacherAnswer.model_validate(queries.require(session, TeacherRow, teacher_id))


@router.delete("/{teacher_id}", status_code=204)
def remove(teacher_id: str, services: ServicesDep, after: BackgroundTasks) -> None:
    """409 while a job needs it. A check that is under way stops."""
    with services.transaction() as session:
        delete.delete_teacher(session, teacher_id)
    after.add_task(services.sweep)


@router.post("/{teacher_id}:check", status_code=202)
def check(teacher_id: str, response: Response, services: ServicesDep) -> TeacherAnswer:
    """Check a refused teacher again, for example when the hub was away. Its status is `checking` once more."""
    with services.transaction() as session:
        row = register.recheck_teacher(session, services.engine, teacher_id)
    response.headers["Location"] = f"/v1/teachers/{teacher_id}"
    response.headers["Retry-After"] = "1"
    return TeacherAnswer.model_validate(row)
