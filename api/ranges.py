"""Range requests as RFC 9110 has them (14.1 to 14.4): what asks for no range in our grammar is no range request."""

from __future__ import annotations

import re

from starlette.types import Scope

from .problems import Refusal

_ONE = re.compile(r"(\d*)-(\d*)")
# More than these in one request is an attack on the server's patience, and may be ignored (14.2).
_MOST = 32


def read_range(header: str, size: int) -> list[tuple[int, int]] | None:
    """The ranges asked for that exist, as first and last byte, both included.

    None where the whole is to be sent: the header is malformed, of another unit, or asks for too much. An empty list
    where nothing of what is asked for exists.
    """
    unit, equals, listed = header.partition("=")
    wanted = [part.strip(" \t") for part in listed.split(",")]
    if unit.strip().lower() != "bytes" or not equals or len(wanted) > _MOST:
        return None
    found: list[tuple[int, int]] = []
    for part in filter(None, wanted):
        match = _ONE.fullmatch(part) if part.isascii() and len(part) < 40 else None
        if match is None or not (match[1] or match[2]):
            return None
        if match[1] and match[2] and int(match[2]) < int(match[1]):
            return None
        first = int(match[1]) if match[1] else max(0, size - int(match[2]))
        last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
        if first <= last:
            found.append((first, last))
    return found if any(wanted) else None


def settle_range(scope: Scope, etag: str, size: int) -> Scope:
    """The scope with no range left in it but such as can be answered; raises 416 if it asks for none of that.

    Args:
        etag: Strong, in its quotes: a range of another version is not wanted (`If-Range`).
    """
    asked = [value.decode("latin-1") for name, value in scope["headers"] if name == b"range"]
    if not asked:
        return scope
    others = [(name, value) for name, value in scope["headers"] if name not in (b"range", b"if-range")]
    same = all(value.decode("latin-1") == etag for name, value in scope["headers"] if name == b"if-range")
    found = read_range(asked[0], size) if len(asked) == 1 and same else None
    if found is None:
        return {**scope, "headers": others}
    if not found:
        raise Refusal(
            416, "range_not_satisfiable", "Range not satisfiable", f"there are {size:,} bytes; ask for some of them",
            Content_Range=f"bytes */{size}",
        )  # fmt: skip
    ranges = ",".join(f"{first}-{last}" for first, last in found)
    return {**scope, "headers": [*others, (b"range", f"bytes={ranges}".encode())]}
