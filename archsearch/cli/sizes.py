"""Flags that say of what size examples are, whatever domain they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from archsearch import domains
from archsearch.data import Task
from archsearch.errors import InvalidRequest

F = TypeVar("F", bound=Callable[..., Any])


def size_options(command: F) -> F:
    """`--domain`, `--classes`, and one flag for each size that examples of any domain have."""
    options = [
        click.option("--domain", type=click.Choice(list(domains.DOMAINS)), help="Which tasks are meant.  [default: by "
                     "the sizes that are given, or image_classification]"),
        click.option("--classes", type=click.IntRange(2), default=10, show_default=True),
        *(_option(name, field) for name, field in domains.sizes().items()),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def sized_task(domain: str | None, classes: int, given: Mapping[str, int | None]) -> Task:
    """The task those flags mean; raises InvalidRequest naming the flag that the domain has no use for."""
    try:
        return domains.sized(domain, classes, given)
    except InvalidRequest as error:
        raise InvalidRequest(error.detail, field=_flag(str(error.field))) from None


def _option(name: str, field: Any) -> Callable[[F], F]:
    bounds = {key: getattr(one, key) for one in field.metadata for key in ("ge", "le") if hasattr(one, key)}
    kind = click.IntRange(bounds.get("ge"), bounds.get("le"))
    return click.option(_flag(name), type=kind, help=f"{field.description}  [default: {field.default}]")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
