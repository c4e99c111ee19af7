"""Data sets: an upload, checked image by image and stored in canonical form."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from archsearch import intake
from archsearch.store import queries
from archsearch.store.models import DatasetRow

from ..deps import ServicesDep
from ..room import Room
from ..schemas import DatasetAnswer, DatasetBody, Page

router = Room(prefix="/datasets", tags=["datasets"])


@router.post("", status_code=201)
def create(body: DatasetBody, services: ServicesDep) -> DatasetAnswer:
    """Read an uploaded npz or zip. Everything wrong with it is found now, and named."""
    # Not `transaction`: reading the upload takes long, and the row is written last of all.
    with services.sessions.begin() as session:
        row = intake.register_dataset(
            session,
            services.files,
            services.settings,
            upload_id=body.upload,
            format=body.format,
            name=body.name,
            image_size=body.image_size,
            fit=body.fit,
            on_broken=body.on_broken,
        )
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
