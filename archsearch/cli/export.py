"""`archsearch export`: a student in other formats, and on a hub."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from archsearch.cli.evaluate import data_settings_option, open_data, progress
from archsearch.cli.inputs import device_option, on_broken_option
from archsearch.cli.into import check_copied, check_fetched, overwrite_option
from archsearch.cli.remote import url_option
from archsearch.device import resolve
from archsearch.errors import ExportError
from archsearch.progress import count
from archsearch.unit import unit_of, written

_JOB = r"job_[0-9a-f]{20}"


@click.command()
@click.argument("source", metavar="FOLDER_OR_JOB")
@click.option(
    "--format", "names", help="Formats to make, comma-separated: onnx, pt2, int8.  [default: all there can be]"
)
@click.option("--data", "-d", help="The data the student was made for, as `archsearch distill` takes them.")
@click.option("--out", "-o", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for all of it.  [default: FOLDER itself, or student for a job]")  # fmt: skip
@overwrite_option
@click.option("--push", "repo", metavar="OWNER/NAME", help="Put the student on a Hugging Face hub.")
@click.option("--private", is_flag=True, help="Only its owner sees what is pushed.")
@click.option("--update", is_flag=True, help="Push into a repository that exists already.")
@on_broken_option
@data_settings_option
@device_option
@url_option
@click.option("--json", "as_json", is_flag=True, help="Print what report.json holds.")
def export(
    source: str,
    names: str | None,
    data: str | None,
    out: Path | None,
    overwrite: bool,
    repo: str | None,
    private: bool,
    update: bool,
    on_broken: str | None,
    settings: tuple[str, ...],
    device: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Write a student in the other formats of its kind (ONNX, int8, torch.export), and say what each is worth.

    \b
    archsearch export student --data mine.npz --out shipped     # int8 of images takes its scales from held-out ones
    archsearch export job_… --out shipped                       # a finished job's student, from the server
    archsearch export student --push owner/name --private       # as it is; HF_TOKEN or `hf auth login` says who pushes

    Every format is held against the fp32 weights before it is kept. With --data its accuracy on the test split is
    measured too; of data without one, on the examples that a training would hold out.
    """
    from archsearch.export import push

    folder = _gather(source, out, url, overwrite)
    # What is only to be pushed is pushed as it is.
    learned = folder if re.fullmatch(_JOB, source) else Path(source)
    made = names or data or not repo
    report = _make(folder, names, data, on_broken, settings, learned, device) if made else None
    address = push(folder, repo, private=private, update=update) if repo else None
    if as_json:
        click.echo(json.dumps({"report": report, "folder": str(folder), "pushed": address}, indent=2))
        return
    if report is not None:
        show(report)
        click.echo(f"in {folder}")
    if address is not None:
        click.echo(address)


def _gather(source: str, out: Path | None, url: str | None, overwrite: bool) -> Path:
    """The student's files in the folder they are wanted in."""
    from archsearch.client import Client
    from archsearch.export import public_files, require_student

    if re.fullmatch(_JOB, source):
        out = out or Path("student")
        check_fetched(source, out, overwrite=overwrite)
        with Client(url) as client, progress() as tell:
            client.download(source, out, listener=lambda done, of: tell("download", done, of))
        return out
    folder = Path(source)
    require_student(folder)
    if out is None or out.resolve() == folder.resolve():
        return folder
    check_copied(folder, out, overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    for path in public_files(folder):
        shutil.copyfile(path, out / path.name)
    return out


def _make(
    folder: Path,
    names: str | None,
    data: str | None,
    on_broken: str | None,
    settings: tuple[str, ...],
    learned: Path,
    device: str,
) -> dict[str, Any]:
    """Make formats in the folder; returns what its `report.json` then holds.

    Args:
        learned: The folder that tells what data the student learned from.
        device: Where the weights themselves are measured.
    """
    from archsearch import domains
    from archsearch.export import (
        choose_formats,
        load_task,
        make_formats,
        refresh,
        score_formats,
        write_report,
    )

    wanted = [name.strip() for name in names.split(",")] if names is not None else None
    task, measured = load_task(folder), None
    # A wrong name is told before the data are read.
    choose_formats(wanted, domains.of(task).formats(), calibrated=data is not None)
    with progress() as tell:
        if data is not None:
            # Held out in any case: these figures are shipped as those of the test split.
            flags = {"on_broken": on_broken}
            measured, task = open_data(data, task, flags, part="test", folder=learned, settings=settings, tell=tell)
        dataset = None if measured is None else measured.dataset
        for note in measured.notes if measured else ():
            click.echo(f"note: {note.detail}", err=True)
        try:
            made = make_formats(folder, task, dataset.selection if dataset else None, names=wanted, listener=tell)
        except ExportError:
            refresh(folder)  # one that was there before has gone
            raise
        if dataset is None:
            report = write_report(folder, made)
        else:
            where = resolve(device)
            report = score_formats(
                folder, made, dataset, task, device=where, listener=lambda done, of: tell("test split", done, of)
            )
    refresh(folder)
    return report


def show(report: Mapping[str, Any]) -> None:
    """The formats side by side."""
    table = Table(title="Formats, against the fp32 weights")
    score, multilabel = f"test_{report.get('metric')}", report.get("metric") == "map"
    same, test = ("same labels", "test mAP") if multilabel else ("same answers", "test split")
    for title in ("file", "bytes", "off by", same, test, "lost", "latency"):
        table.add_column(title, overflow="fold", no_wrap=title in ("file", "bytes", "latency"))
    for row in report["formats"].values():
        table.add_row(
            row["file"],
            count(row["bytes"]),
            f"{row['max_abs_diff']:.2g}",
            f"{row['agreement']:.2f} %",
            "" if row.get(score) is None else written(row[score], unit_of(report)),
            "" if row.get("points_lost") is None else f"{row['points_lost']:.2f}",
            f"{row['latency_ms']:.3g} ms",
        )
    console = Console()
    console.print(table)
    for name, reason in report.get("missing", {}).items():
        console.print(Text(f"{name} is not there: {reason}"))


commands = (export,)
