"""Commands that look at what is kept, and make room."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import click

from archsearch.cli.remote import json_option, url_option
from archsearch.cli.service import settings_of, storage_options
from archsearch.client import Client
from archsearch.errors import Conflict, InvalidRequest
from archsearch.settings import Settings, user_cache

_UNITS = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


def _age(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A duration such as 12h, 30d or 2w, in seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([hdw])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no age; give hours, days or weeks: 12h, 30d, 2w")
    return float(found[1]) * _UNITS[found[2]]


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@url_option
def delete(ids: Sequence[str], url: str | None) -> None:
    """Delete jobs, teachers, data sets, uploads or profiles on the server, by their ids.

    What something else still needs is refused, and says so. A job has to have ended: cancel it first.
    """
    with Client(url) as client:
        for id in ids:
            client.delete(id)
            click.echo(f"{id} deleted")


@click.command()
@url_option
@json_option
def storage(url: str | None, as_json: bool) -> None:
    """Show what the server keeps, and what of it will go by itself."""
    with Client(url) as client:
        found = client.storage()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    kinds = {**found["kept"], **{kind: found["kept"].get(kind, {}) for kind in found["prunable"]}}
    rows = [
        (kind, f"{kept.get('count', 0):,}", gigabytes(kept.get("bytes", 0)),
         gigabytes(found["prunable"].get(kind, {}).get("bytes", 0)))
        for kind, kept in kinds.items()
    ]  # fmt: skip
    _table(("kind", "count", "kept", "may go"), rows)
    click.echo(f"{gigabytes(found['free_bytes'])} are free")


@click.command()
@storage_options
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--older-than", callback=_age, metavar="AGE", help="Whatever has been unused for so long (12h, 30d, 2w), "
              "instead of the ages in the settings. Never finished jobs.")  # fmt: skip
@json_option
def prune(dry_run: bool, older_than: float | None, as_json: bool, **flags: Any) -> None:
    """Remove what nobody needs from a service's data folder, and from your cache.

    \b
    Goes:   uploads never completed or named by nothing, files of what was deleted,
            superseded attempts, checkpoints of jobs that failed long ago, caches
            beyond their size, least recently used first
    Stays:  whatever a row still counts on
    """
    from archsearch.storage import Retention, cache_waste, remove

    settings = settings_of(flags)
    retention = Retention.of(settings)
    if older_than is not None:
        retention = retention.older_than(older_than)
    found = [*_of_service(settings, retention, dry_run)]
    cached = list(cache_waste(user_cache() / "evidence", retention))
    found += cached if dry_run else remove(cached)
    if as_json:
        told = [{"kind": item.kind, "what": item.what, "bytes": item.size_bytes, "why": item.why} for item in found]
        click.echo(json.dumps({"dry_run": dry_run, "removed": told, "bytes": sum(item.size_bytes for item in found)}))
        return
    _table(("kind", "what", "size", "why"), [(i.kind, i.what, gigabytes(i.size_bytes), i.why) for i in found])
    total = gigabytes(sum(item.size_bytes for item in found))
    click.echo(f"{len(found)} {'would go' if dry_run else 'are gone'}, {total}")


def _of_service(settings: Settings, retention: Any, dry_run: bool) -> Sequence[Any]:
    """What goes of a service's data folder; nothing where there is none."""
    from archsearch.storage import Store, prune, waste
    from archsearch.store.database import connect, session_factory
    from archsearch.store.files import Files
    from archsearch.store.migrate import is_current, upgrade

    if not (settings.data_dir / "uploads").is_dir():
        if settings.model_fields_set & {"data_dir", "database_url"}:
            raise InvalidRequest(f"{settings.data_dir} is no data folder of a service", field="data_dir")
        return []
    files = Files(settings.data_dir)
    database = connect(settings.url)
    try:
        if not dry_run:
            upgrade(database, files.root / "migrate.lock")
        elif not is_current(database):
            raise Conflict(
                "the database is not of this version of archsearch, and a dry run leaves it as it is; whatever runs "
                "without --dry-run, a start of the service too, brings it up to date"
            )
        store = Store(session_factory(database), files)
        return waste(store, retention) if dry_run else prune(store, retention)
    finally:
        database.dispose()


def gigabytes(size_bytes: float) -> str:
    """`2.50 GB`, `31.00 kB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= size:
            return f"{size_bytes / size:.2f} {unit}"
    return f"{size_bytes:.0f} B"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows) if rows else ():
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


commands = (delete, storage, prune)
