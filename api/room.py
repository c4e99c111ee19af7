"""How a route's function is run: in one thread from its first line to the last byte of its answer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Response
from fastapi.routing import APIRoute
from pydantic_core import to_json

# Every thread may hold a connection, so there are fewer of them than the pool has connections (30): a thread never
# waits for a connection whose holder waits for a thread.
THREADS = 24


class _Route(APIRoute):
    """FastAPI would check and write an answer in a second thread, after the function's own has been given back. Under
    load it then waits for that thread while it still holds what the function opened. The types are mypy's to check."""

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, status_code: int | None = None, **options: Any
    ) -> None:
        if not inspect.iscoroutinefunction(endpoint):
            endpoint = _in_one_thread(endpoint, status_code or 200)
        super().__init__(path, endpoint, status_code=status_code, **options)


class Room(APIRouter):
    """The routes of one resource. Each opens its session itself and closes it before it returns:

        with services.reading() as session:
            return DatasetAnswer.model_validate(queries.require(session, DatasetRow, dataset_id))

    Headers and another status are set on a parameter `response: Response`, as everywhere in FastAPI.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=_Route, **options)


def _in_one_thread(function: Callable[..., Any], status: int) -> Callable[..., Any]:
    @functools.wraps(function)
    async def endpoint(**given: Any) -> Response:
        return await anyio.to_thread.run_sync(_run, function, given, status)

    return endpoint


def _run(function: Callable[..., Any], given: dict[str, Any], status: int) -> Response:
    answer = function(**given)
    if isinstance(answer, Response):
        return answer
    told = given.get("response")
    if isinstance(told, Response):
        return written(answer, told.status_code or status, dict(told.headers))
    return written(answer, status)


def written(answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Models, lists of them or plain data as a response; what is no JSON number (nan, inf) becomes null."""
    content = b"" if status in (204, 304) else to_json(answer, inf_nan_mode="null")
    return Response(content, status, headers, media_type="application/json" if content else None)
