"""What Pydantic found wrong, as fields and sentences."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError


def first_error(error: ValidationError) -> tuple[str, str]:
    """The field (dotted) and the message of the first thing Pydantic found wrong."""
    field, detail = errors_by_field(error.errors())[0]
    return field, detail


def errors_by_field(errors: Any) -> list[tuple[str, str]]:
    """Pydantic's errors as (dotted field, message) pairs."""
    found = []
    for item in errors:
        # Pydantic names the union's member, which is no field of the request.
        parts = [str(part) for part in item["loc"] if part not in ("body", "function-after", "function-before")]
        parts = [part for i, part in enumerate(parts) if not (i and part in _KINDS.get(parts[i - 1], ()))]
        found.append((".".join(parts), item["msg"].removeprefix("Value error, ")))
    return found


_SOURCES = frozenset({"job", "timm", "local", "upload", "teacher", "digits", "dataset", "npz", "image_folder", "text"})
_KINDS = {"teacher": _SOURCES, "data": _SOURCES, "source": _SOURCES, "verify": frozenset({"spec", "auto"})}
