"""Uploads: open one, PUT its parts in any order, complete it."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.concurrency import run_in_threadpool

from archsearch.errors import Conflict, TooLarge
from archsearch.store import queries
from archsearch.store.models import Upload

from ..deps import JSON_BYTES, Services, ServicesDep, SessionDep
from ..schemas import CompleteBody, UploadAnswer, UploadBody

router = APIRouter(prefix="/uploads", tags=["uploads"])


@router.post("", status_code=201, max_body_size=JSON_BYTES)
def create(body: UploadBody, session: SessionDep, services: ServicesDep) -> UploadAnswer:
    """Open an upload."""
    limit = services.settings.max_upload_bytes
    if body.size_bytes is not None and body.size_bytes > limit:
        raise TooLarge(f"{body.size_bytes:,} bytes are more than the {limit:,} this server takes", field="size_bytes")
    upload = Upload(id=queries.new_id("up"), filename=body.filename, size_bytes=body.size_bytes, status="open")
    session.add(upload)
    session.flush()
    return _answer(upload, services)


@router.get("/{upload_id}")
def get(upload_id: str, session: SessionDep, services: ServicesDep) -> UploadAnswer:
    return _answer(queries.require(session, Upload, upload_id), services)


@router.put("/{upload_id}/parts/{number}", status_code=204)
async def put_part(
    upload_id: str, number: Annotated[int, Path(ge=1, le=100_000)], request: Request, services: ServicesDep
) -> None:
    """One part, as the raw body. Sending a part again replaces it."""
    room = await run_in_threadpool(_room, services, upload_id, number)
    path = services.files.part(upload_id, number)
    partial = path.with_suffix(f".{request.state.request_id}")
    received = 0
    try:
        with partial.open("wb") as out:
            async for chunk in request.stream():
                received += len(chunk)
                if received > room:
                    raise TooLarge(f"part {number} has more than {room:,} bytes; send smaller parts, or less in all")
                out.write(chunk)
        os.replace(partial, path)
    except FileNotFoundError:
        raise Conflict(f"upload {upload_id} was completed while part {number} arrived") from None
    finally:
        partial.unlink(missing_ok=True)


@router.post("/{upload_id}:complete", max_body_size=JSON_BYTES)
def complete(upload_id: str, body: CompleteBody, session: SessionDep, services: ServicesDep) -> UploadAnswer:
    """Join the parts and check the sha256, if one is given."""
    upload: Upload = queries.require(session, Upload, upload_id)
    if upload.status == "complete":
        raise Conflict(f"upload {upload_id} is complete already")
    limit = services.settings.max_upload_bytes
    upload.size_bytes, upload.sha256 = services.files.complete_upload(upload_id, body.sha256, limit)
    upload.status = "complete"
    return _answer(upload, services)


def _room(services: Services, upload_id: str, number: int) -> int:
    """Bytes a part may still have; raises unless the upload is open."""
    with services.sessions() as session:
        upload: Upload = queries.require(session, Upload, upload_id)
        if upload.status != "open":
            raise Conflict(f"upload {upload_id} is complete; nothing can be added to it")
    left = services.settings.max_upload_bytes - services.files.uploaded_bytes(upload_id, without=number)
    return min(left, services.settings.max_part_bytes)


def _answer(upload: Upload, services: Services) -> UploadAnswer:
    found = UploadAnswer.model_validate(upload)
    return found.model_copy(update={"max_part_bytes": services.settings.max_part_bytes})
