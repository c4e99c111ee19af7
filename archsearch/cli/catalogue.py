"""Commands that list what there is to choose from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click
from pydantic import TypeAdapter

from archsearch.cli.display import show_listing
from archsearch.distill.loss import losses as all_losses
from archsearch.domains.images.task import ImageTask
from archsearch.progress import count
from archsearch.proxies import proxies as all_proxies
from archsearch.proxies.score import DEFAULT
from archsearch.spaces import choose, of_domain

if TYPE_CHECKING:
    from archsearch.teachers import Teacher


@click.command()
@click.option("--image-size", type=click.IntRange(4, 512), default=32, show_default=True, help="Pixels a side.")
@click.option("--classes", type=click.IntRange(2), default=10, show_default=True)
@click.option("--in-chans", type=click.IntRange(1, 4), default=3, show_default=True)
@click.option("--teacher", help="Show its own space too, for its classes and channels: timm model name or timm folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def spaces(image_size: int, classes: int, in_chans: int, teacher: str | None, as_json: bool) -> None:
    """List the spaces of student architectures, with bounds and costs for a task."""
    task = ImageTask(classes, in_chans, image_size, image_size, (0.5,) * in_chans, (0.25,) * in_chans)
    own = None
    if teacher is not None:
        loaded: Any = load(teacher)
        own = loaded.model
        task = replace(task, in_chans=loaded.in_chans, classes=loaded.num_classes, mean=(0.5,) * loaded.in_chans,
                       std=(0.25,) * loaded.in_chans)  # fmt: skip
    rows: list[dict[str, Any]] = []
    for space in (*(() if own is None else choose("teacher", task, own)), *of_domain(task.domain)):
        if reason := space.refusal(task):
            rows.append({"name": space.name, "doc": space.doc, "benchmark": space.benchmark, "refuses": reason})
            continue
        smallest, largest = (space.cost(member(task), task) for member in (space.smallest, space.largest))
        rows.append(
            {
                "name": space.name,
                "doc": space.doc,
                "benchmark": space.benchmark,
                "refuses": None,
                "stock_timm": space.stock(task),
                "parameters": [asdict(parameter) for parameter in space.parameters(task)],
                "cardinality": space.cardinality(task),
                "smallest": asdict(smallest),
                "largest": asdict(largest),
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    show_listing(
        f"Spaces at {image_size}×{image_size}, {classes} classes", ((row["name"], _space(row)) for row in rows)
    )


def _space(row: dict[str, Any]) -> list[str]:
    if row["refuses"]:
        return [row["doc"], f"not here: {row['refuses']}"]
    sizes = (f"{count(row['smallest'][what])} … {count(row['largest'][what])}" for what in ("params", "macs"))
    params, macs = sizes
    return [
        row["doc"],
        f"{row['cardinality']:,} members, {params} parameters, {macs} MACs",
        f"searched: {_searched(row['parameters'])}",
    ]


def _searched(parameters: Sequence[Mapping[str, Any]]) -> str:
    """`depth1-4 1–3, width 8–64`: numbered parameters of the same bounds are told together."""
    groups: list[tuple[str, list[str], str]] = []
    for parameter in parameters:
        stem, number = re.fullmatch(r"(.*?)(\d*)", parameter["name"]).groups()  # type: ignore[union-attr]
        bounds = f"{parameter['low']}–{parameter['high']}"
        if number and groups and (groups[-1][0], groups[-1][2]) == (stem, bounds):
            groups[-1][1].append(number)
        else:
            groups.append((stem, [number], bounds))
    named = (stem + numbers[0] + (f"-{numbers[-1]}" if len(numbers) > 1 else "") for stem, numbers, _ in groups)
    return ", ".join(f"{name} {bounds}" for name, (_, _, bounds) in zip(named, groups, strict=True))


def load(teacher: str) -> Teacher:
    """The network `--teacher` names."""
    from archsearch.cli.inputs import teacher_of
    from archsearch.request import TeacherSpec
    from archsearch.teachers import load_teacher

    source: Any = TypeAdapter[Any](TeacherSpec).validate_python(teacher_of(teacher))
    return load_teacher(source)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def proxies(as_json: bool) -> None:
    """List the zero-cost proxies: what they measure, need and come from."""
    rows: list[dict[str, Any]] = [
        {
            "name": p.name,
            "doc": p.doc,
            "needs": sorted(p.needs),
            "source": p.source,
            "default_weight": DEFAULT.get(p.name, 0.0),
        }
        for p in all_proxies
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    show_listing("Proxies, and their weights in the default score", ((row["name"], _proxy(row)) for row in rows))


def _proxy(row: dict[str, Any]) -> list[str]:
    weight = f"weight {row['default_weight']:g}; " if row["default_weight"] else ""
    return [row["doc"], f"{weight}needs {', '.join(row['needs']) or 'nothing'}; {row['source']}"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def losses(as_json: bool) -> None:
    """List the distillation losses: what each reads, its published weights and its own settings."""
    rows: list[dict[str, Any]] = [
        {
            "name": loss.name,
            "doc": loss.doc,
            "reads": sorted(loss.reads),
            "tasks": sorted(loss.tasks),
            "weight": loss.weight,
            "labels": loss.labels,
            "settings": loss.settings().model_dump(),
            "source": loss.source,
        }
        for loss in all_losses
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    show_listing("Distillation losses", ((row["name"], _loss(row)) for row in rows))


def _loss(row: dict[str, Any]) -> list[str]:
    settings = ", ".join(f"{name} {_short(value)}" for name, value in row["settings"].items())
    return [
        row["doc"],
        f"weight {row['weight']:g}, labels {row['labels']:g}" + (f"; {settings}" if settings else ""),
        f"reads {', '.join(row['reads']) or 'nothing'}; {row['source']}",
    ]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


commands = (spaces, proxies, losses)
