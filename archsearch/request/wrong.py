"""What Pydantic found wrong, as fields and sentences."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationError

from archsearch.request.base import OfJob
from archsearch.request.data import DataSpec
from archsearch.request.search import PretrainedNetwork
from archsearch.request.teachers import TeacherSource, TeacherSpec


def first_error(error: ValidationError) -> tuple[str, str]:
    """The field (dotted) and the message of the first thing Pydantic found wrong."""
    field, detail = errors_by_field(error.errors())[0]
    return field, detail


def errors_by_field(errors: Any) -> list[tuple[str, str]]:
    """Pydantic's errors as (dotted field, message) pairs."""
    found = []
    for item in errors:
        # Pydantic names the union's member, which is no field of the request.
        parts = [str(part) for part in item["loc"] if part not in ("function-after", "function-before")]
        parts = [part for i, part in enumerate(parts) if part not in _KINDS.get(_list_or_field(parts[:i]), ())]
        if parts in ([], ["body"]) and item["type"].startswith("union_tag"):
            parts = [item["ctx"]["discriminator"].strip("'")]
        found.append((".".join(part for part in parts if part != "body"), item["msg"].removeprefix("Value error, ")))
    return found


def _list_or_field(before: list[str]) -> str:
    """The field a part of a path stands behind, or in whose list."""
    named = [part for part in before[-2:] if not part.isdigit()]
    return named[-1] if named else ""


def _kinds(union: Any) -> frozenset[str]:
    return frozenset(member.model_fields["kind"].default for member in get_args(get_args(union)[0]))


_SOURCES = _kinds(TeacherSpec) | _kinds(TeacherSource) | _kinds(DataSpec) | {OfJob.model_fields["kind"].default}
_KINDS = {
    "teacher": _SOURCES,
    "data": _SOURCES,
    "source": _SOURCES,
    "body": _kinds(DataSpec),
    "pretrained": _kinds(PretrainedNetwork),
    "verify": frozenset({"spec", "auto"}),
    "workers": frozenset({"count", "auto"}),
    "students": frozenset({"count", "limits"}),
}
