"""Every error as RFC 9457 `application/problem+json`, with a stable `code`."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from archsearch.errors import (
    ArchsearchError,
    Conflict,
    DataError,
    InvalidRequest,
    NotFound,
    TeacherError,
    TooLarge,
)
from archsearch.request import errors_by_field

log = logging.getLogger(__name__)

# The one table from our errors to HTTP; the first class that fits decides.
STATUS: tuple[tuple[type[ArchsearchError], int], ...] = (
    (TooLarge, 413),
    (InvalidRequest, 422),
    (DataError, 422),
    (TeacherError, 422),
    (NotFound, 404),
    (Conflict, 409),
    (ArchsearchError, 500),
)
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


def problem(status: int, body: dict[str, Any], request: Request, **extra: Any) -> JSONResponse:
    content = {**body, "status": status, "request_id": getattr(request.state, "request_id", None), **extra}
    return JSONResponse(content, status, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Teach the app to answer every kind of failure in the same form."""

    @app.exception_handler(ArchsearchError)
    def ours(request: Request, error: ArchsearchError) -> JSONResponse:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        return problem(status, error.problem(), request)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = errors_by_field(error.errors())
        field, detail = found[0]
        errors = [{"field": field, "detail": detail} for field, detail in found]
        return problem(422, InvalidRequest(detail, field=field).problem(), request, errors=errors)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> JSONResponse:
        code = _CODES.get(error.status_code, "http_error")
        body = {**ArchsearchError(str(error.detail)).problem(), "code": code, "title": str(error.detail)}
        body["type"] = f"urn:archsearch:problem:{code}"
        answer = problem(error.status_code, body, request)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.exception("%s %s", request.method, request.url.path)
        body = ArchsearchError("the server failed; its log has the details under this request id").problem()
        return problem(500, {**body, "code": "internal_error", "title": "Internal error"}, request)
