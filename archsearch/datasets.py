"""From an uploaded file to a checked data set that jobs can name."""

from __future__ import annotations

from typing import Literal

from sqlalchemy.orm import Session

from archsearch import data
from archsearch.errors import InvalidRequest
from archsearch.jobs import completed_upload
from archsearch.settings import Settings
from archsearch.store import queries
from archsearch.store.files import Files
from archsearch.store.models import DatasetRow


def register(
    session: Session,
    files: Files,
    settings: Settings,
    *,
    upload_id: str,
    format: Literal["npz", "image_folder"],
    name: str | None,
    image_size: int | None,
) -> DatasetRow:
    """Read, check and store an upload; raises DataError or TooLarge naming the array, member or class at fault."""
    completed_upload(session, upload_id, "upload")
    limits = data.Limits(max_bytes=settings.max_dataset_bytes, max_images=settings.max_images)
    path = files.upload(upload_id)
    if format == "npz":
        if image_size is not None:
            raise InvalidRequest("only image_folder is resized; leave it out for npz", field="image_size")
        dataset = data.load_npz(path, limits)
    else:
        dataset = data.load_image_folder(path, image_size, limits)
    id = queries.new_id("ds")
    data.save_dataset(dataset, files.dataset(id))
    task = {field: getattr(dataset.task, field) for field in dataset.task.__dataclass_fields__}
    row = DatasetRow(
        id=id,
        name=name,
        format=format,
        sha256=dataset.sha256,
        task=task,
        splits={split: len(getattr(dataset, split)) for split in ("train", "selection", "test")},
    )
    session.add(row)
    session.flush()
    return row
