"""The shell: everything the service and the library do, with exit codes that scripts can use."""

from __future__ import annotations

import sys

import click

from archsearch import __version__
from archsearch.cli import (
    catalogue,
    convert,
    evaluate,
    export,
    local,
    predict,
    pretrained,
    profile,
    remote,
    service,
    storage,
)
from archsearch.errors import ArchsearchError, Cancelled, InvalidRequest, NotFound, ServiceError

EPILOG = """Exit codes: 0 done, 1 the job failed, 2 the request is wrong, 3 the server does not answer,
4 the job was cancelled, 5 no such thing, 130 interrupted.

Every setting of a server can also come from the environment: ARCHSEARCH_DATA_DIR, ARCHSEARCH_PORT, …"""


_SECTIONS = {
    "Without a server": ("search", "distill", "train-teacher", "convert"),
    "A finished student": ("predict", "evaluate", "export"),
    "With a server": ("submit", "watch", "jobs", "show", "pareto", "download", "cancel", "retry", "delete"),
    "The server itself": ("serve", "worker", "storage", "prune"),
    "What there is": ("spaces", "pretrained", "proxies", "losses", "devices", "profile"),
}
# Enough for any first sentence: it is wrapped, not cut.
_SENTENCE = 300


class Sections(click.Group):
    """Commands by what they are for, each with the whole first sentence of its help."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        named = {name for names in _SECTIONS.values() for name in names}
        others = {"More": tuple(name for name in self.commands if name not in named)}
        for title, names in {**_SECTIONS, **others}.items():
            rows = [
                (name, self.commands[name].get_short_help_str(_SENTENCE)) for name in names if name in self.commands
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


@click.group(
    cls=Sections, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="archsearch")
def app() -> None:
    """Find the student network that fits your budget, and distil it from your teacher."""


for command in (
    *service.commands, *remote.commands, *local.commands, *convert.commands, *export.commands, *evaluate.commands,
    *predict.commands, *catalogue.commands, *pretrained.commands, *profile.commands, *storage.commands,
):  # fmt: skip
    app.add_command(command)


def main() -> None:
    """The `archsearch` command."""
    try:
        app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except ArchsearchError as error:
        click.secho(f"{error.title}: {error}", fg="red", err=True)
        sys.exit(exit_code(error))


def exit_code(error: ArchsearchError) -> int:
    """The code for scripts; the help text lists them."""
    if isinstance(error, ServiceError):
        return {0: 3, 404: 5}.get(error.status, 2 if 400 <= error.status < 500 else 1)
    if isinstance(error, Cancelled):
        return 4
    if isinstance(error, NotFound):
        return 5
    return 2 if isinstance(error, InvalidRequest) else 1
