"""Uploads: open one, PUT its parts in any order, complete it."""

from __future__ import annotations

from typing import Annotated

from fastapi import BackgroundTasks, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from archsearch.errors import Conflict, TooLarge
from archsearch.store import delete, queries, uploads
from archsearch.store.models import Upload

from ..deps import Services, ServicesDep
from ..room import Room
from ..schemas import CompleteBody, UploadAnswer, UploadBody

router = Room(prefix="/uploads", tags=["uploads"])


@router.post("", status_code=201, responses={200: {"description": "Here already."}})
def create(body: UploadBody, response: Response, services: ServicesDep) -> UploadAnswer:
    """Open an upload. Content that is here already, by its `sha256`, is answered 200 with the upload that holds it:
    `complete`, so there is nothing to send."""
    limit = services.settings.max_upload_bytes
    if body.size_bytes is not None and body.size_bytes > limit:
        raise TooLarge(f"{body.size_bytes:,} bytes are more than the {limit:,} this server takes", field="size_bytes")
    with services.transaction() as session:
        upload = uploads.same_content(session, services.files, body.sha256, body.size_bytes)
        if upload is None:
            upload = Upload(id=queries.new_id("up"), filename=body.filename, size_bytes=body.size_bytes, status="open")
            session.add(upload)
        else:
            response.status_code = 200
    return _answer(upload, services)


@router.get("/{upload_id}")
def get(upload_id: str, services: ServicesDep) -> UploadAnswer:
    with services.reading() as session:
        upload: Upload = queries.require(session, Upload, upload_id)
    return _answer(upload, services)


@router.put("/{upload_id}/parts/{number}", status_code=204)
async def put_part(
    upload_id: str, number: Annotated[int, Path(ge=1, le=100_000)], request: Request, services: ServicesDep
) -> None:
    """One part, as the raw body. Sending a part again replaces it; 204 says that it is part of the content."""
    upload, room = await run_in_threadpool(_room, services, upload_id, number)
    part = services.files.part(upload_id, number)
    arriving = part.with_suffix(f".{request.state.request_id}")
    received, most = 0, services.settings.max_upload_bytes
    try:
        with arriving.open("wb") as out:
            async for chunk in request.stream():
                received += len(chunk)
                if received > room:
                    raise uploads.too_long(upload, number, room)
                await run_in_threadpool(out.write, chunk)  # a disk may take its time, and others are not to wait for it
        await run_in_threadpool(
            uploads.keep_part, services.sessions, services.files, upload_id, number, arriving, most=most
        )
    except FileNotFoundError:
        raise Conflict(f"upload {upload_id} was completed or deleted while part {number} arrived") from None
    finally:
        await run_in_threadpool(uploads.drop_part, services.sessions, services.files, upload_id, arriving)


@router.post("/{upload_id}:complete")
def complete(upload_id: str, body: CompleteBody, services: ServicesDep) -> UploadAnswer:
    """Join the parts and check the sha256, if one is given. Asked again, the answer is the same."""
    most = services.settings.max_upload_bytes
    upload = uploads.complete(services.transaction, services.files, upload_id, body.sha256, most=most)
    return _answer(upload, services)


@router.delete("/{upload_id}", status_code=204)
def remove(upload_id: str, services: ServicesDep, after: BackgroundTasks) -> None:
    """Complete or not; 409 while a teacher or the reading of a data set needs it."""
    delete.remove_upload(services.transaction, services.files, upload_id)
    after.add_task(services.sweep)


def _room(services: Services, upload_id: str, number: int) -> tuple[Upload, int]:
    """The upload, which is open, and the bytes a part may still have."""
    with services.reading() as session:
        upload: Upload = queries.require(session, Upload, upload_id)
    settings = services.settings
    most, most_part = settings.max_upload_bytes, settings.max_part_bytes
    return upload, uploads.room_for(upload, services.files, number, most=most, most_part=most_part)


def _answer(upload: Upload, services: Services) -> UploadAnswer:
    found = UploadAnswer.model_validate(upload)
    return found.model_copy(update={"max_part_bytes": services.settings.max_part_bytes})
