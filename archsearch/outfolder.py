"""Whose a folder is: one run at a time works in it, and what others made there is not overwritten."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archsearch.errors import Conflict, InvalidRequest
from archsearch.request import parse_request
from archsearch.whole import read_kept

WORK = ".work"
REQUEST = "request.json"
MANIFEST = "manifest.json"
# What is there before the first candidate is scored: a request that was refused leaves no more.
_WORTHLESS = (REQUEST, "settled.json", "warnings.json")


@contextmanager
def claimed(out: Path, body: str, *, overwrite: bool = False) -> Iterator[Mapping[str, Any] | None]:
    """Take a folder for the run of one request; yields the manifest where that run is over already.

    Args:
        out: A new or empty folder, one this very request was interrupted in, or one it has finished.
        body: The request as JSON.
        overwrite: Take any folder. What another run left unfinished there goes; other files stay until replaced.

    Raises:
        Conflict: Another process works in it.
        InvalidRequest: It holds what something else made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{out} is no folder one can write to ({error.strerror})", field="out") from None
    with _lock(out):
        if overwrite:
            _clear(out)
        yield _made(out, body, overwrite)


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Nobody else works in the folder meanwhile; the kernel lets go of it however this process ends."""
    # The folder itself is locked: a file for it would lie about in what is shipped.
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


def _clear(out: Path) -> None:
    """Remove what an earlier run made, so that no file of it is taken for the new student's."""
    manifest = read_kept(out / MANIFEST)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if isinstance(files, dict):
        for name in files:
            (out / Path(name).name).unlink(missing_ok=True)
        (out / MANIFEST).unlink()


def _made(out: Path, body: str, overwrite: bool) -> Mapping[str, Any] | None:
    """The manifest of this request's finished run, None where there is something to do; or InvalidRequest."""
    fix = "choose another folder, or take this one with --overwrite (overwrite=True)"
    work = out / WORK
    if (work / REQUEST).is_file() and (work / REQUEST).read_bytes() == body.encode():
        return None
    if overwrite:
        return None
    if _worth(work):
        raise InvalidRequest(f"{out} holds a run of another request that is not finished; {fix}", field="out")
    names = sorted(path.name for path in out.iterdir() if path.name != WORK)
    if not names:
        return None
    manifest = read_kept(out / MANIFEST)
    if not isinstance(manifest, dict) or "request" not in manifest:
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise InvalidRequest(f"{out} holds files no run of archsearch left there ({shown}); {fix}", field="out")
    if not _same(manifest, body):
        raise InvalidRequest(f"{out} holds what another request made; {fix}", field="out")
    return manifest


def _worth(work: Path) -> bool:
    """Whether an unfinished run had come so far that somebody may want to go on with it."""
    return work.is_dir() and any(path.name not in _WORTHLESS for path in work.iterdir() if path.name[0] != ".")


def _same(manifest: Mapping[str, Any], body: str) -> bool:
    try:
        # Parsed, so that what was written before a field existed says nothing of it. `request` is what was made of it.
        return parse_request(manifest.get("asked", manifest["request"])).model_dump_json() == body
    except InvalidRequest:
        return False
