"""Words and tables of a card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]


def count(number: Any) -> str:
    return "" if number is None else f"{number:,}"


def shown(value: Any, how: str) -> str:
    return "" if value is None else how.format(value)


def plain(value: Any) -> str:
    """A setting as people write it; never a printed dictionary."""
    if isinstance(value, Mapping):
        return f"({listed(value)})"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def code(text: str, language: str = "python") -> str:
    return f"```{language}\n{text}\n```"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    # A name with a bar in it would be a column of its own.
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def joined(words: str, what: str) -> str:
    return words + what if what else ""


def milliseconds(value: float) -> str:
    """Two decimals, or as many digits where that would be nothing."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def listed(values: Json) -> str:
    """Names with their values, for people: width1 8, depth1 2."""
    return ", ".join(f"{name} {plain(value)}" for name, value in values.items())
