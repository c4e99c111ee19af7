"""Every error archsearch raises on purpose.

    ArchsearchError
    ├── InvalidRequest        a field of a request is wrong; nothing was started
    │   ├── UnknownName       a name nobody registered; suggests the nearest
    │   ├── ImpossibleBudget  no architecture of the space fits; says the smallest possible
    │   └── TooLarge          more bytes, pixels or members than this server takes
    ├── DataError             images or labels that cannot be learned from
    ├── TeacherError          weights that do not load, do not match the data, or know nothing
    ├── NotFound              no such job, teacher, data set, upload or artifact
    ├── Conflict              right request, wrong moment
    │   └── NotReady          what it names is still being checked: the same request will do soon
    ├── Gone                  it was there, and its file is no more
    ├── Unavailable           the database or the server cannot take this right now; the same request will do later
    ├── SearchError           no candidate could be scored
    ├── TrainingError         a distillation that diverged
    ├── ExportError           a form of the student that must not be shipped, or a hub that did not take it
    ├── ServiceError          the server answered, and what it answered is a problem
    ├── TooManyAttempts       a job that killed its worker too often
    ├── TooSlow               a check over its time limit
    ├── TooMuchMemory         work that would take, or took, more memory than there is for it
    └── Cancelled             the user stopped the job

The library knows nothing of HTTP: `api` maps a class to a status in one table.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any


class ArchsearchError(Exception):
    """An error with a stable `code`, a `detail` for people and, where one is at fault, the `field` to change."""

    code = "error"
    title = "Error"
    retryable = False

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.detail = detail
        self.field = field

    def problem(self) -> dict[str, Any]:
        """The same body wherever the error ends up: a response, a job's row or a teacher's."""
        return {
            "type": f"urn:archsearch:problem:{self.code}",
            "title": self.title,
            "code": self.code,
            "detail": public(self.detail),
            "field": self.field,
            "retryable": self.retryable,
        }


class InvalidRequest(ArchsearchError):
    code = "invalid_request"
    title = "The request is not valid"


class UnknownName(InvalidRequest):
    """A name that is not registered; the message suggests the nearest one."""

    code = "unknown_name"
    title = "Unknown name"

    def __init__(self, kind: str, name: str, known: Iterable[str], *, field: str | None = None) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else ""
        # A list of two hundred names helps nobody; a dozen does.
        listing = f"known: {', '.join(known)}" if len(known) <= 12 else ""
        super().__init__("; ".join(part for part in (f"unknown {kind} {name!r}", hint, listing) if part), field=field)


class ImpossibleBudget(InvalidRequest):
    code = "impossible_budget"
    title = "No architecture of the space fits the budget"


class TooLarge(InvalidRequest):
    code = "too_large"
    title = "Too large"


class DataError(ArchsearchError):
    code = "invalid_data"
    title = "The data cannot be used"


class TeacherError(ArchsearchError):
    code = "invalid_teacher"
    title = "The teacher cannot be used"


class NotFound(ArchsearchError):
    code = "not_found"
    title = "Not found"


class Conflict(ArchsearchError):
    code = "conflict"
    title = "Not possible in this state"


class Gone(ArchsearchError):
    code = "gone"
    title = "No longer there"


class NotReady(Conflict):
    """What the request names is still being checked; the same request may be made again in `retry_after_s` seconds."""

    code = "not_ready"
    title = "Not ready yet"
    retryable = True
    retry_after_s = 2


class Unavailable(ArchsearchError):
    """Nothing is wrong with the request; whoever asks again after `retry_after_s` seconds may well be served."""

    code = "unavailable"
    title = "Not available right now"
    retryable = True

    def __init__(self, detail: str, *, field: str | None = None, retry_after_s: int = 2) -> None:
        super().__init__(detail, field=field)
        self.retry_after_s = retry_after_s


class SearchError(ArchsearchError):
    code = "search_failed"
    title = "The search found no student"


class TrainingError(ArchsearchError):
    code = "training_failed"
    title = "The distillation failed"


class TooManyAttempts(ArchsearchError):
    code = "too_many_attempts"
    title = "The job stopped its worker too often"


class TooSlow(ArchsearchError):
    code = "took_too_long"
    title = "It took too long"


class TooMuchMemory(ArchsearchError):
    code = "too_much_memory"
    title = "It takes too much memory"


class Cancelled(ArchsearchError):
    code = "cancelled"
    title = "Cancelled"


class ExportError(ArchsearchError):
    """A form of the student that must not be shipped, or a hub that did not take it."""

    code = "export_failed"
    title = "The student could not be exported"


class ServiceError(ArchsearchError):
    """What a server answered, for clients: `problem` is the body it sent."""

    code = "service_error"
    title = "The server refused"

    def __init__(self, detail: str, *, status: int, body: dict[str, Any] | None = None) -> None:
        super().__init__(detail, field=(body or {}).get("field"))
        self.status = status
        self.title = "The server refused" if status else "No answer from the server"
        self.body = body or {}
        self.code = self.body.get("code", self.code)


_NO_DETAIL = "the details are in the server's log"
# Characters of a message that are told. Clients choose some of them, and the patterns below look at each.
_LONGEST = 8000
# What follows these is a trace, a statement or advice to whoever programs in C++; none of it is for a client.
_TAILS = re.compile(
    r"(?:\(Background on this error at:|\[SQL:|\[parameters:|Exception raised from |Traceback \(most recent call|"
    r"C\+\+ CapturedTraceback|frame #\d|Stack trace:|CUDA kernel errors might|Compile with `TORCH_USE_CUDA_DSA)",
)
_INNARDS = (
    (re.compile(r"\[enforce fail at [^\]]*\]\s*[^.]*\.\s*"), ""),
    (re.compile(r"\((?:sqlite3|psycopg|psycopg2)[\w.]*\)\s*"), ""),
    (re.compile(r"<([\w.]+)(?: object)? at 0x[0-9a-fA-F]+>"), r"\1"),
    (re.compile(r" ?(?:\bat )?\b0x[0-9a-fA-F]{6,}\b"), ""),
    # `at ../c10/util/x.cpp:12`, and the like of ONNX Runtime's
    (re.compile(r" ?(?:\bat )?(?<![\w./-])[\w./-]{1,300}\.(?:cpp|cc|cu|cuh|h|hpp|c)\b:\d+"), ""),
)
# An absolute path of more than one step, unless it is part of a URL, or one of ours over HTTP.
_PATH = re.compile(r"(?<![\w:/.}>~-])(?:file://)?/(?!v1/)(?:[^\s/'\"<>|:;,()\[\]]+/)+([^\s/'\"<>|:;,()\[\]]*)")


def public(detail: str) -> str:
    """A message as it may leave this machine: no path of ours but a file's name, no address, no SQL, no C++."""
    if len(detail) > _LONGEST:
        detail = f"{detail[:_LONGEST]}…"
    if cut := _TAILS.search(detail):
        detail = detail[: cut.start()]
    for innards, rest in _INNARDS:
        detail = innards.sub(rest, detail)
    return _PATH.sub(lambda path: path[1] or "a folder", detail).strip() or _NO_DETAIL


def public_problem(problem: Any) -> Any:
    """A problem as `ArchsearchError.problem` makes it, read from where it was kept; what is none stays as it is."""
    if isinstance(problem, dict) and isinstance(problem.get("detail"), str):
        return {**problem, "detail": public(problem["detail"])}
    return problem


def public_data(data: dict[str, Any]) -> dict[str, Any]:
    """The data of an event with every message in it as `public` makes it."""
    told = {name: public_problem(data[name]) for name in ("error", "warning") if data.get(name)}
    told |= {name: public(data[name]) for name in ("detail", "reason") if isinstance(data.get(name), str)}
    return {**data, **told}
