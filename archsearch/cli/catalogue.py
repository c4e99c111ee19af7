"""Commands that list what there is to choose from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import click
from pydantic import TypeAdapter

from archsearch import domains
from archsearch.cli.display import show_listing
from archsearch.cli.sizes import size_options, sized_task
from archsearch.distill.loss import losses as all_losses
from archsearch.distill.loss import serves
from archsearch.progress import count
from archsearch.proxies import proxies as all_proxies
from archsearch.proxies.score import DEFAULT, votes_in
from archsearch.spaces import choose, of_domain


@click.command()
@size_options
@click.option("--teacher", help="Show its own space too, for its classes and inputs: a name, or a folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def spaces(domain: str | None, classes: int, teacher: str | None, as_json: bool, **sizes: int | None) -> None:
    """List the spaces of student architectures, with bounds and costs for a task."""
    own = None
    if teacher is not None:
        domain, loaded = load(teacher, domain)
        own = loaded.model
    task = sized_task(domain, classes, sizes)
    if own is not None:
        taught: Any = replace(task, classes=loaded.num_classes)  # type: ignore[type-var]
        task = domains.of(taught).read_by(taught, domains.of(taught).facts(loaded))
    rows: list[dict[str, Any]] = []
    for space in (*(() if own is None else choose("teacher", task, own)), *of_domain(task.domain)):
        about = {"name": space.name, "domain": space.domain, "doc": space.doc, "benchmark": space.benchmark}
        if reason := space.refusal(task):
            rows.append({**about, "refuses": reason})
            continue
        smallest, largest = (space.cost(member(task), task) for member in (space.smallest, space.largest))
        rows.append(
            {
                **about,
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
    title = f"Spaces for {domains.of(task).told(task)}, {task.classes} classes"
    show_listing(title, ((row["name"], _space(row)) for row in rows))


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


def load(teacher: str, domain: str | None = None) -> tuple[str, Any]:
    """The network `--teacher` names, and the domain it is of: as its folder tells, or as it is given."""
    from archsearch.cli.inputs import teacher_of
    from archsearch.export import domain_of
    from archsearch.request import TeacherSpec

    named = teacher_of(teacher)
    if domain is None:
        domain = domain_of(named["path"]).name if named["kind"] == "local" else "image_classification"
    source: Any = TypeAdapter[Any](TeacherSpec).validate_python(named)
    return domain, domains.get(domain).load_teacher(source, None, None)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def proxies(as_json: bool) -> None:
    """List the zero-cost proxies: what they measure, need and come from, and whose networks they are for."""
    vocabularies = domains.vocabularies()
    rows: list[dict[str, Any]] = [
        {
            "name": p.name,
            "doc": p.doc,
            "needs": sorted(p.needs),
            "source": p.source,
            "default_weight": DEFAULT.get(p.name, 0.0),
            "default_weights": votes_in(p.name, domains.DOMAINS),
            "domains": [name for name, size in vocabularies.items() if p.defined_for(size)],
        }
        for p in all_proxies
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    show_listing("Proxies, and their weights in the default score", ((row["name"], _proxy(row)) for row in rows))


def _proxy(row: dict[str, Any]) -> list[str]:
    weight = "".join(f"weight {value:g} in {name}; " for name, value in row["default_weights"].items())
    only = _only(row["domains"])
    return [row["doc"], f"{weight}{only}needs {', '.join(row['needs']) or 'nothing'}; {row['source']}"]


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
            "domains": serves(loss),
            "weight": loss.weight,
            "labels": loss.labels,
            "by_labels": loss.by_labels,
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
        f"{_only(row['domains'])}reads {', '.join(row['reads']) or 'nothing'}; {row['source']}",
    ]


def _only(served: Sequence[str]) -> str:
    """Said where it is not for every domain."""
    return "" if set(served) == set(domains.DOMAINS) else f"only {', '.join(served)}; "


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


commands = (spaces, proxies, losses)
