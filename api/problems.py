"""Every error as RFC 9457 `application/problem+json`, with a stable `code`."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError as UnstorableValue
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from archsearch.errors import (
    ArchsearchError,
    Conflict,
    DataError,
    Gone,
    InvalidRequest,
    NotFound,
    NotReady,
    TeacherError,
    TooLarge,
    TooMuchMemory,
    TooSlow,
    Unavailable,
)
from archsearch.request import errors_by_field
from archsearch.store.outage import outage
from archsearch.whole import is_full

from .schemas import Problem

log = logging.getLogger(__name__)

# The one table from our errors to HTTP; the first class that fits decides.
STATUS: tuple[tuple[type[ArchsearchError], int], ...] = (
    (TooLarge, 413),
    (InvalidRequest, 422),
    (DataError, 422),
    (TeacherError, 422),
    (TooMuchMemory, 422),
    (TooSlow, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Gone, 410),
    (Unavailable, 503),
    (ArchsearchError, 500),
)
_CODES = {
    400: "malformed_body", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type",
}  # fmt: skip

_ROOM_AFTER_S = 30


def _told(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }


# For the OpenAPI document: what every operation may answer.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": _told("What is wrong with the request, as RFC 9457 problem details."),
    "500": _told("The server failed; its log has more under the request id."),
    "503": {
        **_told("The database is away or locked, a disk is full, or too many requests wait: come again."),
        "headers": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
    },
}


class Refusal(Exception):
    """A problem only HTTP has, which is none of the library's errors."""

    def __init__(self, status: int, code: str, title: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.title, self.detail = status, code, title, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def install(app: FastAPI) -> None:
    """Teach the app to answer every kind of failure in the same form."""

    # Async, as each would have to wait for a thread otherwise.
    async def tell(request: Request, error: Exception) -> Response:
        return answer(request, error)

    for kind in (ArchsearchError, SQLAlchemyError, OSError, RequestValidationError, HTTPException, Refusal):
        app.add_exception_handler(kind, tell)


def answer(request: Request, error: Exception) -> Response:
    """The response to an error of any kind."""
    if isinstance(error, ArchsearchError):
        return _ours(request, error)
    if isinstance(error, Refusal):
        return refuse(request, error)
    if isinstance(error, RequestValidationError):
        return _invalid(request, error)
    if isinstance(error, HTTPException):
        code, detail = _CODES.get(error.status_code, "http_error"), str(error.detail)
        return refuse(request, Refusal(error.status_code, code, detail, detail, **(error.headers or {})))
    if isinstance(error, UnstorableValue):
        # A number beyond 64 bits, for one, that no bound of ours has caught.
        return _ours(request, InvalidRequest("the database cannot hold one of these values"))
    passing = outage(error) or _no_room(error)
    if passing is not None:
        log.warning("%s %s: %s (%s)", request.method, request.url.path, passing.detail, type(error).__name__)
        return _ours(request, passing)
    return _unforeseen(request, error)


def _no_room(error: Exception) -> Unavailable | None:
    """What to tell of a disk that is full, which is a matter of minutes rather than seconds."""
    full = isinstance(error, OSError) and is_full(error)
    return Unavailable("the server's disk is full", retry_after_s=_ROOM_AFTER_S) if full else None


def problem(status: int, body: dict[str, Any], request: Request, **extra: Any) -> JSONResponse:
    content = {**body, "status": status, "request_id": getattr(request.state, "request_id", None), **extra}
    return JSONResponse(content, status, media_type="application/problem+json")


def refuse(request: Request, refusal: Refusal) -> JSONResponse:
    body = ArchsearchError(refusal.detail).problem()
    body |= {"type": f"urn:archsearch:problem:{refusal.code}", "code": refusal.code, "title": refusal.title}
    found = problem(refusal.status, body, request)
    found.headers.update(refusal.headers)
    return found


def _ours(request: Request, error: ArchsearchError) -> JSONResponse:
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    found = problem(status, error.problem(), request)
    if isinstance(error, Unavailable | NotReady):
        found.headers["Retry-After"] = str(error.retry_after_s)
    return found


def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    kind = request.headers.get("content-type", "")
    if first["loc"] == ("body",) and not kind.partition(";")[0].strip().endswith("json"):
        detail = f"the body is {kind or 'of no declared type'}; send Content-Type: application/json"
        return refuse(request, Refusal(415, "unsupported_media_type", "Unsupported media type", detail))
    found = [(field or None, detail) for field, detail in errors_by_field(error.errors())]
    field, detail = found[0]
    errors = [{"field": field, "detail": detail} for field, detail in found]
    return problem(422, InvalidRequest(detail, field=field).problem(), request, errors=errors)


def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    id = getattr(request.state, "request_id", None)
    log.error("%s: %s %s", id, request.method, request.url.path, exc_info=error)
    detail = "the server failed; its log has the details under this request id"
    return refuse(request, Refusal(500, "internal_error", "Internal error", detail))
