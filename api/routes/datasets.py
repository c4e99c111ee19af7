"""Data sets: an upload, checked example by example by a worker and stored in canonical form."""

from __future__ import annotations

from typing import Annotated

from fastapi import BackgroundTasks, Query, Response

from archsearch import register
from archsearch.store import delete, queries
from archsearch.store.models import DatasetRow

from ..deps import Key, ServicesDep
from ..room import Room
from ..schemas import DatasetAnswer, DatasetBody, Page

router = Room(prefix="/datasets", tags=["datasets"])


@router.post("", status_code=202, responses={200: {"description": "It is here already, and ready."}})
def create(body: DatasetBody, response: Response, services: ServicesDep, idempotency_key: Key = None) -> DatasetAnswer:
    """Have an upload read. Its status goes from `checking`, with `progress`, to `ready`, or to `refused` with a problem
    in `error` that names the array, member, column or class at fault. Content that was read so before is the same
    data set."""
    with services.transaction() as session:
        row = register.register_dataset(
            session,
            services.engine,
            services.files,
            upload_id=body.upload,
            format=body.format,
            name=body.name,
            options=body.options(),
            idempotency_key=idempotency_key,
        )
    response.status_code = 200 if row.status == "ready" else 202
    response.headers["Location"] = f"/v1/datasets/{row.id}"
    response.headers["Retry-After"] = "1"
    return DatasetAnswer.model_validate(row)


@router.get("")
def list_datasets(
    services: ServicesDep, after: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Page[DatasetAnswer]:
    with services.reading() as session:
        rows, next_after = queries.page(session, DatasetRow, after=after, limit=limit)
    data = [DatasetAnswer.model_validate(row) for row in rows]
    return Page(data=data, has_more=next_after is not None, next_after=next_after)


@router.get("/{dataset_id}")
def get(dataset_id: str, services: ServicesDep) -> DatasetAnswer:
    with services.reading() as session:
        return DatasetAnswer.model_validate(queries.require(session, DatasetRow, dataset_id))


@router.delete("/{dataset_id}", status_code=204)
def remove(dataset_id: str, services: ServicesDep, after: BackgroundTasks) -> None:
    """409 while a job or a teacher's check needs it. A reading that is under way stops."""
    with services.transaction() as session:
        delete.delete_dataset(session, dataset_id)
    after.add_task(services.sweep)
