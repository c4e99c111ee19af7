"""Teachers: a timm name or uploaded weights, checked by a worker before any job relies on them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from archsearch import intake
from archsearch.store import queries
from archsearch.store.models import TeacherRow

from ..deps import ServicesDep, SessionDep
from ..schemas import Page, TeacherAnswer, TeacherBody

router = APIRouter(prefix="/teachers", tags=["teachers"])


@router.post("", status_code=202)
def create(body: TeacherBody, response: Response, session: SessionDep, services: ServicesDep) -> TeacherAnswer:
    """Register a teacher. Its status goes from `checking` to `ready`, or to `refused` with a problem in `error`."""
    row = intake.register_teacher(session, services.engine, services.files, body.source, name=body.name, data=body.data)
    response.headers["Location"] = f"/v1/teachers/{row.id}"
    response.headers["Retry-After"] = "1"
    return TeacherAnswer.model_validate(row)


@router.get("")
def list_teachers(
    session: SessionDep, after: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Page[TeacherAnswer]:
    rows, next_after = queries.page(session, TeacherRow, after=after, limit=limit)
    data = [TeacherAnswer.model_validate(row) for row in rows]
    return Page(data=data, has_more=next_after is not None, next_after=next_after)


@router.get("/{teacher_id}")
def get(teacher_id: str, session: SessionDep) -> TeacherAnswer:
    return TeacherAnswer.model_validate(queries.require(session, TeacherRow, teacher_id))
