"""What a worker does with teachers, data sets and profiles that were handed in, each in a process of its own."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from archsearch import bounded, data, domains
from archsearch.domains.unpack import unpack
from archsearch.engine import patiently, pause
from archsearch.errors import ArchsearchError, Cancelled, DataError, TooLarge, TooManyAttempts
from archsearch.examine import examine
from archsearch.hardware.profile import fit_profile
from archsearch.memory import machine_bytes
from archsearch.settings import Settings
from archsearch.store.models import DatasetRow, ProfileRow, TeacherRow

if TYPE_CHECKING:
    from archsearch.workplace import Workplace

log = logging.getLogger(__name__)

Table = type[DatasetRow] | type[ProfileRow] | type[TeacherRow]
# Of an interpreter with NumPy, and for each byte of a data set: as it came, as pixels, and sorted into splits.
_OWN_BYTES, _COPIES = 2**30, 4


def read_dataset(place: Workplace, dataset_id: str) -> None:
    """Read an upload, check every example and store it in canonical form. A deleted row stops that."""
    _settle(place, DatasetRow, dataset_id, lambda row: _read(place, row))
    _tidy(place, dataset_id)


def fit(place: Workplace, profile_id: str) -> None:
    """Fit a profile's predictors, once for all jobs that will name it."""
    _settle(place, ProfileRow, profile_id, lambda row: _fit(place, row))


def check_teacher(place: Workplace, teacher_id: str) -> None:
    """Load a teacher strictly and, where it came with data, measure it. A deleted row stops that."""
    _settle(place, TeacherRow, teacher_id, lambda row: _examine(place, row))


def _examine(place: Workplace, row: TeacherRow) -> dict[str, Any]:
    settings, files = place.settings, place.files
    upload = row.source.get("upload")
    of_digits = row.data is not None and row.data["kind"] == "digits"
    found: dict[str, Any] = bounded.run(
        examine,
        {
            "source": row.source,
            "weights": None if upload is None else str(files.upload(upload)),
            "folder": None if upload is None else str(files.unpacked(upload)),
            "digits": row.data if of_digits else None,
            "dataset": None if row.data is None or of_digits else str(files.dataset(row.data["id"])),
        },
        what="the teacher's check",
        limit_s=settings.check_time_limit_s,
        memory_bytes=settings.check_memory_bytes or machine_bytes() // 2,
        cancelled=lambda: _is_unwanted(place, TeacherRow, row.id),
        progress=lambda said: log.debug("teacher %s: %s", row.id, said),
        advice="give a smaller input_size or network",
    )
    return {**found, "error": None}


def _read(place: Workplace, row: DatasetRow) -> dict[str, Any]:
    settings, files = place.settings, place.files
    limits = limits_of(settings)
    content = files.upload(str(row.upload))
    if not content.is_file():
        raise DataError(f"the content of {row.upload} is gone; upload it again", field="upload")
    _remove_partial(place, row.id)
    if not domains.is_whole(files.dataset(row.id)):  # what is left of one that was read before
        shutil.rmtree(files.dataset(row.id), ignore_errors=True)
    try:
        found = bounded.run(
            unpack,
            {
                "path": str(content),
                "format": row.format,
                "options": row.options or {},
                "limits": asdict(limits),
                "folder": str(files.dataset(row.id)),
            },
            what="reading the data set",
            limit_s=settings.intake_limit_s,
            memory_bytes=_memory(place),
            cancelled=lambda: _is_unwanted(place, DatasetRow, row.id),
            progress=lambda share: _tell(place, row.id, share),
            advice="use fewer or smaller examples",
        )
    except (DataError, TooLarge) as error:
        # The file as a whole, whose name and path are none of the client's.
        whole = error.field in ("path", content.name)
        raise type(error)(error.detail, field="upload" if whole else error.field) from None
    return {**found, "notes": found["notes"] or None, "progress": 1.0}


def limits_of(settings: Settings) -> data.Limits:
    """What a service takes in of anybody's data."""
    return data.Limits(
        max_bytes=settings.max_dataset_bytes,
        max_examples=settings.max_examples,
        max_classes=settings.max_classes,
        max_side=settings.max_side,
        # Folders and documents beside the examples.
        max_members=2 * settings.max_examples,
        max_file_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
    )


def _fit(place: Workplace, row: ProfileRow) -> dict[str, Any]:
    found = bounded.run(
        fit_profile,
        {"body": row.body},
        what="fitting the profile",
        limit_s=place.settings.intake_limit_s,
        memory_bytes=_memory(place),
        cancelled=lambda: _is_unwanted(place, ProfileRow, row.id),
        advice="give fewer entries",
    )
    return {"predictors": found}


def _settle(place: Workplace, table: Table, id: str, check: Callable[[Any], dict[str, Any]]) -> None:
    """Check a row that is `checking` and write down what came of it: `ready`, or `refused` with the problem."""

    def begin() -> Any:
        with place.sessions.begin() as session:
            unchecked = (table.id == id, table.status == "checking")
            session.execute(update(table).where(*unchecked).values(attempt=table.attempt + 1))
            return session.get(table, id)

    def begin_anew() -> None:
        with place.sessions.begin() as session:
            session.execute(update(table).where(table.id == id).values(attempt=table.attempt - 1))

    def end() -> None:
        with place.sessions.begin() as session:
            session.execute(update(table).where(table.id == id).values(**found))

    row = patiently(begin, id)
    if not isinstance(row, table) or row.status != "checking":
        return
    try:
        if row.attempt > place.settings.max_attempts:
            raise TooManyAttempts(f"checked {row.attempt - 1} times: the worker died each time; see its log")
        found = {"status": "ready", **patiently(lambda: check(row), id)}
    except Cancelled:  # the row was deleted
        return
    except ArchsearchError as error:
        found = _refused(table, error.problem())
    except Exception as error:  # nothing a client hands in may stop the worker; the row carries what happened
        log.exception("checking %s", id)
        problem = ArchsearchError(f"{type(error).__name__}; the worker's log has more").problem()
        found = _refused(table, {**problem, "code": "internal_error", "title": "The worker failed", "retryable": True})
    except BaseException:  # the worker was told to stop, which is no fault of the check's
        with suppress(SQLAlchemyError):
            begin_anew()
        raise
    patiently(end, id)
    log.info("%s is %s", id, found["status"])


def _refused(table: Table, problem: dict[str, Any]) -> dict[str, Any]:
    # The same question may be asked again: what refused it may be a setting that has changed since.
    return {"status": "refused", "error": problem} | ({"question": None} if table is DatasetRow else {})


def _is_unwanted(place: Workplace, table: Table, id: str) -> bool:
    """Whether the row is gone; unwinds the check when its worker is told to stop."""
    pause(0)
    return not _wanted(place, table, id)


def _wanted(place: Workplace, table: Table, id: str) -> bool:
    """Whether the row is still there. A database that is away for a moment has deleted nothing."""
    try:
        with place.sessions() as session:
            return session.scalar(select(table.id).where(table.id == id)) is not None
    except OperationalError:
        return True


def _tell(place: Workplace, dataset_id: str, share: float) -> None:
    with suppress(OperationalError), place.sessions.begin() as session:  # the next one will do as well
        session.execute(update(DatasetRow).where(DatasetRow.id == dataset_id).values(progress=share))


def _memory(place: Workplace) -> int:
    most = _OWN_BYTES + _COPIES * place.settings.max_dataset_bytes
    return min(most, place.settings.check_memory_bytes or machine_bytes() // 2)


def _tidy(place: Workplace, dataset_id: str) -> None:
    """Remove what a child that was stopped left behind, and the data of a row that was deleted meanwhile."""
    _remove_partial(place, dataset_id)
    if not _wanted(place, DatasetRow, dataset_id):
        shutil.rmtree(place.files.dataset(dataset_id), ignore_errors=True)


def _remove_partial(place: Workplace, dataset_id: str) -> None:
    for partial in place.files.dataset(dataset_id).parent.glob(f".{dataset_id}.*"):
        shutil.rmtree(partial, ignore_errors=True)
