"""An upload from its first part to the whole file, safe against a crash at any instant and requests in any order.

The row is the truth: `open` takes parts, `complete` has its content. Whoever moves a part into place shares the
upload's lock, whoever completes or deletes it has the lock alone, and both look at the row once they hold it. Parts
are removed after the commit that makes them superfluous: a commit that is lost costs nothing but its repetition.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from archsearch.errors import Conflict, InvalidRequest, NotFound, TooLarge
from archsearch.store import queries
from archsearch.store.files import Files, chunks
from archsearch.store.models import Upload, now
from archsearch.whole import put_in_place

Transaction = Callable[[], AbstractContextManager[Session]]

# Moving a part takes milliseconds; joining the parts of gigabytes takes seconds, and another request comes back.
PATIENCE_S = 2.0
_LOOK_EVERY_S = 0.01


@contextmanager
def held(files: Files, upload_id: str, *, alone: bool) -> Iterator[None]:
    """Hold the upload's lock, alone or with others who only add parts; raises Conflict when it is not to be had."""
    path = files.upload_lock(upload_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE_S
    with path.open("w") as lock:
        while not _take(lock.fileno(), fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
            if time.monotonic() > deadline:
                raise Conflict(f"another request is completing upload {upload_id}; ask again in a few seconds")
            time.sleep(_LOOK_EVERY_S)
        try:
            yield
        except NotFound:  # it was deleted meanwhile, and its folder perhaps made anew since
            shutil.rmtree(path.parent, ignore_errors=True)
            raise


def same_content(session: Session, files: Files, sha256: str | None, size_bytes: int | None) -> Upload | None:
    """A complete upload of this content, which thereby counts as used now; None where nothing is known of it."""
    if sha256 is None:
        return None
    for upload in queries.uploads_of(session, sha256.lower()):
        if size_bytes in (None, upload.size_bytes) and files.upload(upload.id).is_file():
            upload.used_at = now()
            return upload
    return None


def room_for(upload: Upload, files: Files, number: int, *, most: int, most_part: int) -> int:
    """Bytes that part `number` may have; raises Conflict unless the upload is open."""
    if upload.status != "open":
        raise Conflict(f"upload {upload.id} is complete; nothing can be added to it")
    most = most if upload.size_bytes is None else min(most, upload.size_bytes)
    return max(0, min(most - files.uploaded_bytes(upload.id, without=number), most_part))


def too_long(upload: Upload, number: int, room: int) -> TooLarge:
    """The error for a part with more bytes than it may have."""
    declared = "" if upload.size_bytes is None else f"; {upload.size_bytes:,} bytes were declared in all"
    return TooLarge(f"part {number} has more than {room:,} bytes; send smaller parts, or less in all{declared}")


def keep_part(
    sessions: sessionmaker[Session], files: Files, upload_id: str, number: int, arrived: Path, *, most: int
) -> None:
    """Move a part that has arrived into its place, unless its upload was completed or deleted meanwhile.

    Raises:
        TooLarge: Other parts arrived meanwhile, and together they are too many bytes.
    """
    with held(files, upload_id, alone=False):
        with sessions() as session:
            upload: Upload = queries.require(session, Upload, upload_id)
        room = room_for(upload, files, number, most=most, most_part=most)
        if arrived.stat().st_size > room:
            raise too_long(upload, number, room)
        put_in_place(arrived, files.part(upload_id, number))


def drop_part(sessions: sessionmaker[Session], files: Files, upload_id: str, arrived: Path) -> None:
    """Remove what arrived of a part, unless it is in its place; and its folder, if the upload was deleted meanwhile."""
    try:
        arrived.unlink()
    except FileNotFoundError:
        return
    with sessions() as session:
        known = session.get(Upload, upload_id) is not None
    if not known:
        shutil.rmtree(files.upload_parts(upload_id).parent, ignore_errors=True)


def complete(
    transaction: Transaction, files: Files, upload_id: str, expected_sha256: str | None, *, most: int
) -> Upload:
    """Join an upload's parts in order; asked again, the answer is the same.

    Args:
        transaction: Begins one; there are several, for joining takes long and a transaction must not.
        expected_sha256: Of the whole content, in hex, if the client says.
        most: Bytes an upload may have.

    Raises:
        Conflict: Parts are missing, or fewer or more bytes have arrived than were declared.
        InvalidRequest: The content is not the one expected.
        TooLarge: The parts are more than `most` bytes.
    """
    with transaction() as session:  # no lock, and no folder for it, for an upload nobody opened
        queries.require(session, Upload, upload_id)
    with held(files, upload_id, alone=True):
        with transaction() as session:
            upload: Upload = queries.require(session, Upload, upload_id)
        if upload.status != "complete":
            sha256, size = _join(files, upload, expected_sha256, most)
            upload = _record(transaction, upload_id, sha256, size)
        elif expected_sha256 is not None and expected_sha256.lower() != upload.sha256:
            raise _other_content(str(upload.sha256))
        # Parts of an earlier attempt too, whose commit arrived and whose process ended before this line.
        shutil.rmtree(files.upload_parts(upload_id), ignore_errors=True)
        return upload


def _take(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _record(transaction: Transaction, upload_id: str, sha256: str, size: int) -> Upload:
    with transaction() as session:
        upload: Upload = queries.require(session, Upload, upload_id)
        upload.status, upload.sha256, upload.size_bytes, upload.used_at = "complete", sha256, size, now()
    return upload


def _join(files: Files, upload: Upload, expected_sha256: str | None, most: int) -> tuple[str, int]:
    parts = _all_parts(files, upload, most)
    digest, size, whole = hashlib.sha256(), 0, files.upload(upload.id)
    partial = whole.with_suffix(".partial")
    try:
        with partial.open("wb") as out:
            for chunk in (chunk for part in parts for chunk in chunks(part)):
                digest.update(chunk)
                size += out.write(chunk)
        if expected_sha256 is not None and digest.hexdigest() != expected_sha256.lower():
            raise _other_content(digest.hexdigest())
        put_in_place(partial, whole)
    finally:
        partial.unlink(missing_ok=True)
    return digest.hexdigest(), size


def _all_parts(files: Files, upload: Upload, most: int) -> list[Path]:
    """The parts in order, once none is missing and they are as many bytes as were declared."""
    parts = files.upload_part_list(upload.id)
    if not parts:
        raise Conflict("no part has arrived; PUT at least part 1 first")
    numbers = [int(part.name) for part in parts]
    if numbers != list(range(1, len(numbers) + 1)):
        missing = sorted(set(range(1, numbers[-1] + 1)) - set(numbers))
        raise Conflict(f"parts are missing: {', '.join(map(str, missing[:10]))}")
    if (size := sum(part.stat().st_size for part in parts)) > most:
        raise TooLarge(f"{size:,} bytes are more than the {most:,} this server takes")
    if upload.size_bytes is not None and size != upload.size_bytes:
        raise Conflict(
            f"{size:,} bytes have arrived and {upload.size_bytes:,} were declared; PUT the parts that are missing or "
            "were cut short",
            field="size_bytes",
        )
    return parts


def _other_content(sha256: str) -> InvalidRequest:
    return InvalidRequest(f"the content's sha256 is {sha256}, not the one given", field="sha256")
