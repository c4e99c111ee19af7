"""The card's table of several students that were made side by side, with what somebody would take instead."""

from __future__ import annotations

from archsearch.export.card_text import Json, count, milliseconds, table
from archsearch.export.files import PICTURE
from archsearch.unit import unit_of, written

# Costs as the table names them.
_HEADS = {
    "size_bytes": "bytes of weights",
    "peak_activation_bytes": "bytes of activations",
    "latency_ms": "latency",
}


def students_section(manifest: Json, *, picture: bool) -> str:
    """All students of a job, the one the card is of in bold; nothing where it is the only one.

    Args:
        picture: Whether their picture lies beside the card.
    """
    rows, judge, unit = manifest.get("students"), manifest.get("judged_by") or {}, unit_of(manifest)
    if not rows:
        return ""
    limited = next(iter(rows[0]["limit"])).removesuffix("_ratio")
    key, costs = f"test_{judge['key']}", [limited] if limited in _HEADS else []

    def line(name: str, row: Json) -> list[str]:
        reached = "" if row.get(key) is None else written(row[key], unit)
        return [name, *(_cost(row, cost) for cost in ("params", "macs", *costs)), reached]

    lines = [line(*_named(manifest, row)) for row in rows]
    lines.append(line("the teacher", manifest.get("teacher", {})))
    lines += [line(f"`{row['network']}`, by a linear probe", row) for row in manifest.get("stock", ())]
    head = ["student", "parameters", "MACs", *(_HEADS[cost] for cost in costs), f"{judge['name']} on the test split"]
    probed = (
        f"\n\nNetworks with weights are there to compare: {manifest['stock_measured_by']}."
        if manifest.get("stock")
        else ""
    )
    drawn = f"![What they reach against what they cost]({PICTURE})\n\n" if picture else ""
    about = "Students of one teacher, each within a limit of its own."
    return f"## Side by side\n\n{about}\n\n{drawn}{table(head, lines)}{probed}"


def own_row(manifest: Json) -> Json:
    """The row of the student a manifest is of; empty where that is the only one."""
    student = manifest.get("student", {})
    made = [row for row in manifest.get("students", ()) if row["failed"] is None and row["same_as"] is None]
    return next((row for row in made if all(row[part] == student.get(part) for part in ("space", "architecture"))), {})


def _named(manifest: Json, row: Json) -> tuple[str, Json]:
    """What a row is called, and the row."""
    ((cost, limit),) = row["limit"].items()
    name = f"{row['student']}: {cost} ≤ {limit:,}"
    if row["failed"] is not None:
        return f"{name} (none: {row['failed']})", {}
    if row["same_as"] is not None:
        return f"{name} (that of {row['same_as']})", row
    return (f"**{name}**" if own_row(manifest) == row else name), row


def _cost(row: Json, name: str) -> str:
    if name != "latency_ms":
        return count(row.get(name))
    measured = (row.get("measured") or row).get(name)
    return "" if measured is None else f"{milliseconds(measured)} ms"
