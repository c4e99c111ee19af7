"""Tables for people: the front of a search, and what a brief distillation told of its best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from archsearch.progress import WORDS, count, duration
from archsearch.request import Budget
from archsearch.unit import unit_of, written

# Columns of a terminal that has room for pictures.
_WIDE = 110
_COLOURS = {"running": "bold", "succeeded": "green", "failed": "red", "cancelled": "dim"}


def show_front(
    front: Sequence[Mapping[str, Any]], against: str, winner: int | None, costs_of: str | None = None
) -> None:
    """A table of the front, cheapest first, with a bar of the score where there is room; the winner stands out."""
    console = Console()
    scores = [member["score"] for member in front]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    costs = list(dict.fromkeys(("params", "macs", against)))
    table = Table(title=f"Score against {against}" + (f", for {costs_of}" if costs_of else ""))
    table.add_column("number", no_wrap=True)
    table.add_column("network", overflow="fold", min_width=18)
    for column in (*costs, "score"):
        # Quartiles of a latency go to a line of their own where there is no room beside it.
        table.add_column(column, no_wrap=column != "latency_ms", min_width=12 if column == "latency_ms" else None)
    wide = console.width >= _WIDE
    if wide:
        table.add_column("", no_wrap=True)
    for member in front:
        length = round(10 * (member["score"] - low) / (high - low)) if high > low else 10
        architecture = " ".join(f"{name}={value}" for name, value in member["architecture"].items())
        table.add_row(
            str(member["number"]),
            f"{member['space']} {architecture}",
            *(cost_text(member, name) for name in costs),
            f"{member['score']:.3f}",
            *(["█" * max(1, length)] if wide else []),
            style="bold green" if member["number"] == winner else None,
        )
    console.print(table)


def show_students(result: Mapping[str, Any]) -> None:
    """A table of several students, the loosest limit first, with the teacher and networks with weights beside them."""
    rows, judge = result["students"], result["judged_by"]
    limited, key = next(iter(rows[0]["limit"])), f"test_{judge['key']}"
    costs = list(dict.fromkeys(("params", "macs", limited.removesuffix("_ratio"))))
    table = Table(title=f"Students, each within a limit of {limited} of its own")
    for column in ("student", *costs, judge["name"]):
        # Quartiles of a latency go to a line of their own where there is no room beside it.
        table.add_column(column, no_wrap=column != "latency_ms", min_width=10 if column == "latency_ms" else None)
    table.add_column("network", overflow="fold", min_width=18)

    def figures(row: Mapping[str, Any]) -> list[str]:
        known = [name for name in costs if row.get(name) is not None or (name == "latency_ms" and row.get("measured"))]
        reached = "" if row.get(key) is None else written(row[key], judge["unit"])
        return [*(cost_text(row, name) if name in known else "" for name in costs), reached]

    for row in rows:
        name = f"{row['student']} ≤ {row['limit'][limited]:,}"
        if row["failed"] is not None:
            table.add_row(name, *[""] * (len(costs) + 1), Text(f"none: {row['failed']}", style="red"))
            continue
        architecture = " ".join(f"{name}={value}" for name, value in row["architecture"].items())
        network = f"{row['space']} {architecture}" if row["same_as"] is None else f"that of student {row['same_as']}"
        table.add_row(name, *figures(row), network)
    table.add_row("", *figures(result["teacher"]), "the teacher", style="dim")
    for row in result.get("stock", ()):
        table.add_row("", *figures(row), f"{row['network']}, by a linear probe", style="dim")
    Console().print(table)


def show_verified(verified: Mapping[str, Any]) -> None:
    """A table of the candidates that were distilled briefly, best first, with the rank their score had given them."""
    plan = verified["rounds"]
    epochs = ", ".join(f"{one['contenders']} for {one['epochs']} epochs" for one in plan)
    judge, unit = verified.get("judged_by", {}), unit_of(verified)
    table = Table(title=f"Verified by brief distillation: {epochs}, {duration(verified['training_s'])} in all")
    table.add_column("rank", justify="right")
    table.add_column("by score", justify="right")
    table.add_column("number", justify="right")
    table.add_column("network", overflow="fold", min_width=18)
    for one in plan:
        table.add_column(f"{unit or judge['name']} after {one['epochs']}", justify="right")
    for candidate in verified["candidates"]:
        (reached,) = (value for name, value in candidate.items() if name.startswith("selection_"))
        values = ["failed" if value is None else written(value, unit).removesuffix(unit).rstrip() for value in reached]
        shown = [*values, *[""] * (len(plan) - len(values))]
        architecture = " ".join(f"{name}={value}" for name, value in candidate["architecture"].items())
        table.add_row(
            str(candidate["rank"]),
            str(candidate["rank_by_score"]),
            str(candidate["number"]),
            f"{candidate['space']} {architecture}",
            *shown,
            style="bold green" if candidate["rank"] == 1 else None,
        )
    Console().print(table)


def cost_text(member: Mapping[str, Any], name: str) -> str:
    """A cost as people read it; a latency with its quartiles where it was timed, and with ~ where it was predicted."""
    if name != "latency_ms":
        return count(member[name])
    if measured := member.get("measured"):
        return f"{measured['latency_ms']:.3g} ms ({measured['low_ms']:.3g}–{measured['high_ms']:.3g})"
    return f"~{member[name]:.3g} ms"


def show_jobs(jobs: Sequence[Mapping[str, Any]]) -> None:
    """A table of jobs, a line each."""
    table = Table(title="Jobs, newest first")
    for column in ("job", "status", "done", "begun"):
        table.add_column(column, no_wrap=True, justify="right" if column == "done" else "left")
    table.add_column("what", overflow="fold", min_width=12)
    for job in jobs:
        begun = datetime.fromisoformat(job["created_at"]).astimezone()
        table.add_row(
            job["id"],
            job["status"],
            f"{100 * job['progress']:.0f} %",
            f"{begun:%d %b %H:%M}",
            Text(job["name"] or job["kind"]),
            style=_COLOURS.get(job["status"]),
        )
    Console().print(table)


def show_job(job: Mapping[str, Any]) -> None:
    """Where a job stands, in lines of a name and a value."""
    console = Console()
    request, error = job["request"], job["error"]
    phase = f", {WORDS.get(job['phase'], job['phase'])}" if job["phase"] and job["status"] == "running" else ""
    left = f", {duration(job['eta_s'])} to the end of the phase" if job["eta_s"] else ""
    lines = {
        "job": f"{job['id']} ({job['kind']})" + (f": {job['name']}" if job["name"] else ""),
        "status": f"{job['status']}{phase}, {100 * job['progress']:.0f} %{left}",
        "teacher": _named(request.get("teacher") or {}),
        "data": _named(request.get("data") or {}),
        "students": _students(request),
        "budget": " and ".join(f"{name} ≤ {limit}" for name, limit in _limits(request).items()),
        "problem": f"{error['detail']} [{error['code']}]" if error else "",
    }
    for name, value in lines.items():
        if value:
            console.print(Text(f"{name:<8} {value}", style="red" if name == "problem" else ""))


def _named(source: Mapping[str, Any]) -> str:
    return str(source.get("id") or source.get("name") or source.get("kind") or "")


def _students(request: Mapping[str, Any]) -> str:
    """How many, where there are several."""
    students = request.get("students", 1)
    if isinstance(students, Mapping):
        return "; ".join(
            f"{name} ≤ {', '.join(f'{limit:,}' for limit in limits)}" for name, limits in students.items() if limits
        )
    return str(students) if students > 1 else ""


def _limits(request: Mapping[str, Any]) -> dict[str, Any]:
    known = Budget.model_fields.keys() - {"device", "batch", "size_precision"}
    return {name: limit for name, limit in request.get("budget", {}).items() if name in known and limit is not None}


def show_listing(title: str, entries: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Names with what there is to say of each, whatever the width: the first line of it, and the rest dimmed."""
    grid = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, (first, *rest) in entries:
        grid.add_row(name, Text("\n").join([Text(first), *(Text(line, style="dim") for line in rest)]))
    Console().print(grid)
