"""Commands that run the service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError
from pydantic_settings import SettingsError

from archsearch.errors import InvalidRequest
from archsearch.request import first_error
from archsearch.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def storage_options(command: F) -> F:
    """Where everything is kept."""
    for option in (
        click.option("--database-url", help="SQLAlchemy URL; default: SQLite inside the data folder."),
        click.option(
            "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Folder for everything kept."
        ),
    ):
        command = option(command)
    return command


gpus_option = click.option(
    "--gpus",
    metavar="NUMBERS",
    help="GPUs that have a worker process each: 0,1, or all; --name is what theirs begin with.",
)


@click.command()
@storage_options
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: 8321]")
@gpus_option
@click.option("--no-worker", is_flag=True, help="API only; start workers yourself with `archsearch worker`.")
def serve(no_worker: bool, **settings: Any) -> None:
    """Run the API and one worker, or one for each of --gpus. Needs no other server."""
    from archsearch.serve import serve

    serve(settings_of(settings), with_worker=not no_worker)


@click.command()
@storage_options
@click.option("--name", default="worker-1", show_default=True, help="Unique and stable: a restart resumes its jobs.")
@gpus_option
@click.option("--supervised", is_flag=True, hidden=True)
def worker(name: str, supervised: bool, **settings: Any) -> None:
    """Run one worker, or one for each of --gpus, on a service's data folder and database."""
    from archsearch.worker import work, work_on_each

    found = settings_of(settings)
    if found.gpus is not None and not supervised:
        work_on_each(found, name)
    else:
        work(found, name, supervised=supervised)


def settings_of(flags: dict[str, Any]) -> Settings:
    """Settings from the environment, with the flags that were given over them."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        field, detail = first_error(error)
        name = f"ARCHSEARCH_{field.upper()}"
        raise InvalidRequest(detail, field=name) from None
    except SettingsError as error:
        raise InvalidRequest(f"{error}; lists are written as JSON") from None


commands = (serve, worker)
