"""Bodies read whole, in time and within bounds, and JSON that is text and numbers throughout."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from archsearch.errors import InvalidRequest, Unavailable

from .deps import JSON_BYTES
from .problems import Refusal

DEEPEST = 64
PATIENCE_S = 30.0
# Of all bodies that have arrived, or are arriving, and wait for their turn.
HELD_BYTES = 64 * 2**20
# Beyond this, reading and walking a body takes more than a millisecond or two, and then in a thread.
_BRIEF_BYTES = 2**15
# All but tab and line breaks.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# An integer of this size is no floating-point number any more; `1e400` is none either.
_HUGE = 2**1023
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class StrictBodies:
    """Pure ASGI. What gets through is a whole body of at most `JSON_BYTES`, and if it is JSON, fit to be kept.

    Args:
        free: Whether a request's body is none of its business, as that of an upload's part.
    """

    def __init__(self, app: ASGIApp, free: Callable[[Scope], bool]) -> None:
        self._app, self._free = app, free
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS") or self._free(scope):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 19 or int(length) > JSON_BYTES):
            raise _too_large()
        held = 0
        try:
            body = bytearray()
            async for chunk in _arriving(receive):
                held += len(chunk)
                self._held += len(chunk)
                if held > JSON_BYTES:
                    raise _too_large()
                if self._held > HELD_BYTES:
                    raise Unavailable("more requests wait than this server takes", retry_after_s=1)
                body += chunk
            if body and headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json"):
                if len(body) > _BRIEF_BYTES:
                    await anyio.to_thread.run_sync(check_json, bytes(body))
                else:
                    check_json(bytes(body))
            await self._app(scope, _replay(bytes(body), receive), send)
        finally:
            self._held -= held


def check_json(body: bytes) -> None:
    """Raise unless a body is JSON that both databases can keep: the field is named, whatever is wrong with it.

    RFC 8259 leaves to the receiver what to do about numbers beyond reach, names given twice and half characters;
    Python's parser takes them all, and NaN besides, which is no JSON.
    """
    try:
        found = json.loads(body.decode("utf-8"), object_pairs_hook=_Pairs)
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise _malformed(f"no UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"{error.msg} at character {error.pos}") from None
    except ValueError:  # Python's own bound on the digits of a number
        raise _malformed("a number has thousands of digits") from None
    for field, complaint in _complaints(found):
        raise InvalidRequest(complaint, field=field or None)


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written, names given twice included."""


def _complaints(value: Any) -> Iterator[tuple[str, str]]:
    """What is wrong, by dotted field. Without recursion, whose depth the client would choose."""
    rest: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    while rest:
        path, value = rest.pop()
        field = ".".join(str(part) for part in path)
        if len(path) > DEEPEST:
            yield field, f"is nested more than {DEEPEST} levels deep"
        elif isinstance(value, str):
            if complaint := _of_text(value):
                yield field, complaint
        elif (isinstance(value, float) and not math.isfinite(value)) or (
            isinstance(value, int) and abs(value) >= _HUGE
        ):
            yield field, "Input should be a finite number"
        elif isinstance(value, _Pairs):
            names = set()
            for name, _ in value:
                if complaint := _of_text(name):
                    yield field, f"a name in it {complaint}"
                elif name in names:
                    yield field, f"names {name!r} twice"
                names.add(name)
            rest += [((*path, name), item) for name, item in reversed(value)]
        elif isinstance(value, list):
            rest += [((*path, number), item) for number, item in reversed(list(enumerate(value)))]


def _of_text(text: str) -> str | None:
    if text.isascii() and text.isprintable():
        return None
    if _SURROGATE.search(text):
        return "is no valid string: it holds half of a surrogate pair"
    return "holds control characters" if _UNPRINTABLE.search(text) else None


async def _arriving(receive: Receive) -> Any:
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    more = True
    while more:
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            detail = f"the body did not arrive within {PATIENCE_S:.0f} s"
            raise Refusal(408, "too_slow", "Too slow", detail, Connection="close") from None
        if message["type"] == "http.disconnect":
            raise Refusal(400, "malformed_body", "Malformed body", "the body ended early")
        more = message.get("more_body", False)
        yield message.get("body", b"")


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _malformed(reason: str) -> Refusal:
    return Refusal(400, "malformed_body", "Malformed body", f"the body is not JSON: {reason}")


def _too_large() -> Refusal:
    detail = f"a request may have {JSON_BYTES:,} bytes; send files in parts, PUT /v1/uploads/{{id}}/parts/{{n}}"
    return Refusal(413, "too_large", "Too large", detail, Connection="close")
