"""Every error as RFC 9457 `application/problem+json`, with a stable `code`."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
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
    TeacherError,
    TooLarge,
    TooMuchMemory,
    TooSlow,
    Unavailable,
)
from archsearch.request import errors_by_field
from archsearch.store.outage import outage

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

# For the OpenAPI document: what every operation may answer.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "What is wrong with the request, as RFC 9457 problem details.",
        "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
    }
}


def problem(status: int, body: dict[str, Any], request: Request, **extra: Any) -> JSONResponse:
    content = {**body, "status": status, "request_id": getattr(request.state, "request_id", None), **extra}
    return JSONResponse(content, status, media_type="application/problem+json")


def refuse(status: int, code: str, title: str, detail: str, request: Request) -> JSONResponse:
    """A problem only HTTP has, which is none of the library's errors."""
    body = {**ArchsearchError(detail).problem(), "type": f"urn:archsearch:problem:{code}", "code": code, "title": title}
    return problem(status, body, request)


def install(app: FastAPI) -> None:
    """Teach the app to answer every kind of failure in the same form."""

    @app.exception_handler(ArchsearchError)
    def ours(request: Request, error: ArchsearchError) -> JSONResponse:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        answer = problem(status, error.problem(), request)
        if isinstance(error, Unavailable):
            answer.headers["Retry-After"] = str(error.retry_after_s)
        return answer

    @app.exception_handler(SQLAlchemyError)
    def database(request: Request, error: SQLAlchemyError) -> JSONResponse:
        passing = outage(error)
        if passing is None:
            return unforeseen(request, error)
        log.warning("%s %s: %s (%s)", request.method, request.url.path, passing.detail, type(error).__name__)
        return ours(request, passing)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            detail = f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
            return refuse(400, "malformed_body", "Malformed body", detail, request)
        kind = request.headers.get("content-type", "")
        if first["loc"] == ("body",) and not kind.partition(";")[0].strip().endswith("json"):
            detail = f"the body is {kind or 'of no declared type'}; send Content-Type: application/json"
            return refuse(415, "unsupported_media_type", "Unsupported media type", detail, request)
        found = [(field or None, detail) for field, detail in errors_by_field(error.errors())]
        field, detail = found[0]
        errors = [{"field": field, "detail": detail} for field, detail in found]
        return problem(422, InvalidRequest(detail, field=field).problem(), request, errors=errors)

    @app.exception_handler(UnstorableValue)
    def unstorable(request: Request, error: UnstorableValue) -> JSONResponse:
        # PostgreSQL keeps no NUL in a text, for one; SQLite does.
        detail = f"the database cannot hold one of these values: {str(error.orig).splitlines()[0]}"
        return problem(422, InvalidRequest(detail).problem(), request)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> JSONResponse:
        code, detail = _CODES.get(error.status_code, "http_error"), str(error.detail)
        answer = refuse(error.status_code, code, detail, detail, request)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> JSONResponse:
        id = getattr(request.state, "request_id", None)
        # Not log.exception: a handler runs in a thread of its own, where no exception is current.
        log.error("%s: %s %s", id, request.method, request.url.path, exc_info=error)
        detail = "the server failed; its log has the details under this request id"
        return refuse(500, "internal_error", "Internal error", detail, request)
