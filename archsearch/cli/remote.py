"""Commands that speak to a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from archsearch.checks import check_names
from archsearch.cli.display import show_front, show_job, show_jobs
from archsearch.cli.inputs import build_request, request_options, send_local_parts
from archsearch.cli.into import check_fetched, overwrite_option
from archsearch.cli.outcome import tell
from archsearch.client import Client
from archsearch.errors import ArchsearchError, Cancelled
from archsearch.progress import Display

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
url_option = click.option("--url", envvar="ARCHSEARCH_URL", help="The server.  [default: http://127.0.0.1:8321]")


class JobFailed(ArchsearchError):
    """A job that ended badly, told with the problem its row carries."""

    code = "job_failed"
    title = "The job failed"


@click.command()
@request_options
@url_option
@click.option("--kind", type=click.Choice(["search", "distill", "search_and_distill"]),
              help="What to do.  [default: what the file says, or search_and_distill]")  # fmt: skip
@click.option("--watch/--no-watch", "watching", default=False, help="Follow the job until it ends.")
def submit(url: str | None, kind: str | None, watching: bool, **flags: Any) -> None:
    """Send a job to the server; prints its id. Local data and teachers are uploaded first."""
    with Client(url) as client:
        request = build_request(kind, flags, client.job)
        check_names(request)  # before anything large is uploaded
        request = send_local_parts(client, request, lambda text: click.echo(text, err=True))
        job = client.submit(request)
        click.echo(job["id"])
        if watching:
            tell(follow(client, job["id"]), job["id"])


@click.command()
@click.argument("job_id")
@url_option
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON instead.")
def watch(job_id: str, url: str | None, as_json: bool) -> None:
    """Follow a job until it ends; says what it came to, and what to do next."""
    with Client(url) as client:
        if as_json:
            for event in client.watch(job_id):
                click.echo(json.dumps(event))
            raise_outcome(client.job(job_id))
        else:
            tell(follow(client, job_id), job_id)


@click.command()
@click.argument("job_id")
@click.option(
    "--out", "-o", type=click.Path(file_okay=False, path_type=Path), default=Path("student"), show_default=True
)
@click.option("--student", type=click.IntRange(1), help="Of several, the number of the one to fetch.  [default: all]")
@overwrite_option
@url_option
def download(job_id: str, out: Path, student: int | None, overwrite: bool, url: str | None) -> None:
    """Fetch a finished job's student, or all of several. Every file's sha256 is checked; what an interrupted call left
    is gone on with."""
    check_fetched(job_id, out, overwrite=overwrite)
    with Client(url) as client:
        for path in client.download(job_id, out, student=student):
            click.echo(path)


@click.command()
@click.argument("job_id")
@url_option
def cancel(job_id: str, url: str | None) -> None:
    """Ask a job to stop; prints its status."""
    with Client(url) as client:
        click.echo(client.cancel(job_id)["status"])


@click.command()
@click.argument("job_id")
@url_option
@click.option("--watch/--no-watch", "watching", default=False, help="Follow the job until it ends.")
def retry(job_id: str, url: str | None, watching: bool) -> None:
    """Go on with a job that failed or was cancelled from its last checkpoint; prints its status."""
    with Client(url) as client:
        click.echo(client.retry(job_id)["status"])
        if watching:
            tell(follow(client, job_id), job_id)


def follow(client: Client, job_id: str) -> dict[str, Any]:
    """Draw a job's progress until it ends; returns its result, or raises what it ended with."""
    with Display() as display:
        for event in client.watch(job_id):
            data = event["data"]
            if event["type"] == "progress":
                display.show(data)
            elif event["type"] == "phase":
                display.show({"phase": data["phase"]})
            elif event["type"] == "warning":
                display.warn(data)
            elif event["type"] == "waiting":
                display.note(f"waiting: {data['reason']}")
            elif event["type"] == "started" and data["attempt"] > 1:
                display.note(f"attempt {data['attempt']}: the job goes on where it was")
    return raise_outcome(client.job(job_id))


def raise_outcome(job: dict[str, Any]) -> dict[str, Any]:
    """The result of a job that succeeded; otherwise its problem as an error."""
    error = job["error"] or {}
    if job["status"] == "cancelled":
        raise Cancelled(f"job {job['id']} was cancelled")
    if job["status"] != "succeeded":
        raise JobFailed(f"{error.get('detail')} [{error.get('code')}]", field=error.get("field"))
    result: dict[str, Any] = job["result"]
    return result


@click.command()
@click.option("--status", type=click.Choice(["queued", "running", "cancelling", "cancelled", "succeeded", "failed"]),
              help="Only those.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="At most so many.")
@url_option
@json_option
def jobs(status: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """List the server's jobs, newest first."""
    with Client(url) as client:
        found = client.jobs(status=status, limit=limit)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        show_jobs(found)
    else:
        click.echo("no jobs" if status is None else f"no {status} jobs")


@click.command()
@click.argument("job_id")
@url_option
@json_option
def show(job_id: str, url: str | None, as_json: bool) -> None:
    """Show one job: where it stands, what it came to, and what to do next."""
    with Client(url) as client:
        job = client.job(job_id)
    if as_json:
        click.echo(json.dumps(job, indent=2))
        return
    show_job(job)
    if job["status"] == "succeeded":
        tell(job["result"], job_id)


@click.command()
@click.argument("job_id")
@click.option("--against", help="Cost to set against the score.  [default: what the search traded or limited]")
@url_option
@json_option
def pareto(job_id: str, against: str | None, url: str | None, as_json: bool) -> None:
    """Show the candidates of a job that no other one beats in both the score and a cost."""
    with Client(url) as client:
        found = client.pareto(job_id, against)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show_front(found["front"], found["against"], found["winner"])


commands = (submit, jobs, show, watch, download, cancel, retry, pareto)
