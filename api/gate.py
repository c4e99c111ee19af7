"""The outermost layer: an id for every request, who may ask at all, and an answer whatever goes wrong within."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archsearch.errors import InvalidRequest

from . import problems
from .problems import Refusal

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Gate:
    """Pure ASGI. The id stands in the answer's header and in every problem, those of failures included.

    Args:
        allowed_hosts: Names this server goes by.
        methods: The methods a path takes; None where there is nothing.
    """

    def __init__(
        self, app: ASGIApp, allowed_hosts: Sequence[str], methods: Callable[[str], Sequence[str] | None]
    ) -> None:
        self._app, self._hosts, self._methods = app, allowed_hosts, methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["request_id"] = id = f"req_{secrets.token_hex(8)}"
        head, started = scope["method"] == "HEAD", False

        async def stamped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = id
                if message["status"] == 405:  # the router knows of one route on a path only
                    headers["Allow"] = ", ".join(self._methods(scope["path"]) or ())
            elif head:
                message = {**message, "body": b""}
            await send(message)

        if head:  # whatever can be got can be asked about (RFC 9110, 9.3.2)
            scope = {**scope, "method": "GET"}
            scope["state"]["head"] = True
        try:
            await self._admit(scope, receive, stamped)
        except Exception as error:
            if started:  # too late to say anything; the server closes the connection
                raise
            request = Request(scope)
            await problems.answer(request, error)(scope, receive, stamped)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        check_host(request, self._hosts)
        check_origin(request)
        check_text(request)
        if scope["method"] != "GET" or ":" in scope["path"]:
            methods = self._methods(scope["path"])
            if methods is not None and scope["method"] not in methods:
                raise Refusal(405, "method_not_allowed", "Method Not Allowed", "Method Not Allowed")
            if methods is not None and scope["method"] == "OPTIONS":
                await Response(status_code=204, headers={"Allow": ", ".join(methods)})(scope, receive, send)
                return
        await self._app(scope, receive, send)


def check_host(request: Request, allowed: Sequence[str]) -> None:
    """Another name for this machine is how a web page from elsewhere gets past its own origin (DNS rebinding)."""
    host = re.sub(r":\d*$", "", request.headers.get("host", "")).lower()
    for name in allowed:
        if name == "*" or host == name.lower() or (name.startswith("*.") and host.endswith(name[1:].lower())):
            return
    detail = f"this server does not go by the name {host!r}; add it to ARCHSEARCH_ALLOWED_HOSTS"
    raise Refusal(400, "foreign_host", "Request for another host", detail)


def check_origin(request: Request) -> None:
    """A web page from elsewhere must not make a browser on this machine submit jobs (CVE-2025-14279 in MLflow)."""
    origin = request.headers.get("origin")
    if not origin or request.method in ("GET", "HEAD") or origin.partition("://")[2] == request.headers.get("host"):
        return
    raise Refusal(
        403, "foreign_origin", "Request from another site", f"pages from {origin} may not change anything here"
    )


def check_text(request: Request) -> None:
    """No name or number of ours has control characters in it, and PostgreSQL keeps no NUL."""
    if "%" in request.url.query:
        for name, value in request.query_params.multi_items():
            if _CONTROL.search(value) or _CONTROL.search(name):
                raise InvalidRequest("has control characters", field=f"query.{_CONTROL.sub('', name)}")
    if "\0" in request.scope["path"]:
        raise Refusal(404, "not_found", "Not Found", "Not Found")
