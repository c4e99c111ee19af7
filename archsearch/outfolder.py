"""Whose a folder is: one run at a time works in it, and what others made there is not overwritten."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from archsearch.errors import Conflict, InvalidRequest
from archsearch.request import parse_request
from archsearch.whole import read_kept, write_whole

WORK = ".work"
# Where of several students all but the first lie, each in a folder by its number.
STUDENTS = "students"
REQUEST = "request.json"
# What says that a run is over, and of which request: a job's, and a teacher's training.
MANIFEST, TRAINING = "manifest.json", "training.json"
FIX = "choose another folder, or take this one with --overwrite (overwrite=True)"
# What is there before the first candidate is scored: a request that was refused leaves no more.
_WORTHLESS = (REQUEST, "settled.json", "warnings.json", "pretrained")

# From plain data to the request it is; raises InvalidRequest or ValidationError.
Parse = Callable[[Any], BaseModel]


@contextmanager
def claimed(
    out: Path, body: str, *, overwrite: bool = False, record: str = MANIFEST, parse: Parse = parse_request
) -> Iterator[Mapping[str, Any] | None]:
    """Take a folder for the run of one request; yields its record where that run is over already.

    Args:
        out: A new or empty folder, one this very request was interrupted in, or one it has finished.
        body: The request as JSON.
        overwrite: Take any folder. What another run left unfinished there goes; other files stay until replaced.
        record: The file such a run leaves when it is over, with its request in it.
        parse: What makes a request of such plain data.

    Raises:
        Conflict: Another process works in it.
        InvalidRequest: It holds what something else made.
    """
    with owned(out):
        if overwrite:
            clear(out)
        yield _made(out, body, overwrite, record, parse)


def begin(work: Path, body: str, parse: Parse = parse_request) -> None:
    """Make a run's working folder: what another request left there goes, what this very one left stays."""
    if not _same(read_kept(work / REQUEST), body, parse):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_whole(work / REQUEST, body)


@contextmanager
def owned(out: Path) -> Iterator[None]:
    """The folder for this process alone, made where there is none; raises Conflict, or InvalidRequest."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{out} is no folder one can write to ({error.strerror})", field="out") from None
    # The folder itself is locked, which the kernel lets go of however this process ends: a file for it would lie about
    # in what is shipped.
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            detail = f"another run is working in {out}; wait for it, or choose another folder"
            raise Conflict(detail, field="out") from None
        except OSError:
            pass  # a network's file system without locks on folders
        yield
    finally:
        os.close(folder)


def clear(out: Path) -> None:
    """Remove what an earlier run made, so that no file of it is taken for the new one's."""
    for beside in sorted((out / STUDENTS).glob("[1-9]*")):
        clear(beside)
        with suppress(OSError):  # it holds what somebody else put there
            beside.rmdir()
            (out / STUDENTS).rmdir()
    for record in (MANIFEST, TRAINING):
        found = read_kept(out / record)
        files = found.get("files") if isinstance(found, dict) else None
        if isinstance(files, dict):
            for name in files:
                (out / Path(name).name).unlink(missing_ok=True)
            (out / record).unlink()


def _made(out: Path, body: str, overwrite: bool, record: str, parse: Parse) -> Mapping[str, Any] | None:
    """The record of this request's finished run, None where there is something to do; or InvalidRequest."""
    work = out / WORK
    if _same(read_kept(work / REQUEST), body, parse) or overwrite:
        return None
    if _worth(work):
        raise InvalidRequest(f"{out} holds a run of another request that is not finished; {FIX}", field="out")
    names = sorted(path.name for path in out.iterdir() if path.name != WORK)
    if not names:
        return None
    found = next((kept for name in (record, MANIFEST, TRAINING) if (kept := _record(out / name)) is not None), None)
    if found is None:
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise InvalidRequest(f"{out} holds files no run of archsearch left there ({shown}); {FIX}", field="out")
    # `request` is what was made of what was asked.
    if not _same(found.get("asked", found["request"]), body, parse):
        raise InvalidRequest(f"{out} holds what another request made; {FIX}", field="out")
    return found


def _record(path: Path) -> Mapping[str, Any] | None:
    found = read_kept(path)
    return found if isinstance(found, dict) and "request" in found else None


def _worth(work: Path) -> bool:
    """Whether an unfinished run had come so far that somebody may want to go on with it."""
    return work.is_dir() and any(path.name not in _WORTHLESS for path in work.iterdir() if path.name[0] != ".")


def _same(kept: Any, body: str, parse: Parse) -> bool:
    """Whether that is this request: parsed, so that what was written before a field existed says nothing of it."""
    try:
        return kept is not None and parse(kept).model_dump_json() == body
    except (InvalidRequest, ValidationError):
        return False
