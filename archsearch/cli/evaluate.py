"""`archsearch evaluate`: what a student is worth on the test split, beside its teacher and a student without one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from archsearch import domains
from archsearch.cli.inputs import data_of, device_option, on_broken_option, settings_of, teacher_of, with_images
from archsearch.data.measured import Measured, Part
from archsearch.data.metrics import Metric
from archsearch.device import resolve
from archsearch.domains.domain import Teacher
from archsearch.errors import InvalidRequest
from archsearch.evaluate import MultiLabelEvaluation, Network, Row
from archsearch.evaluate import figures as evaluate_figures
from archsearch.outfolder import TRAINING
from archsearch.progress import count
from archsearch.unit import written
from archsearch.whole import read_kept

Tell = Callable[[str, int, int], None]

_CALLED = {"student": "this student", "no_teacher": "the other student", "teacher": "teacher"}
_WORST = 5
# Metrics that have words of their own in the table.
_TOLD = ("acc", "balanced_acc", "map", "nll")
CONFIG = "config.json"


data_settings_option = click.option(
    "--set", "settings", multiple=True, metavar="FIELD=VALUE",
    help="Any other field of the data, e.g. --set text_column=body.",
)  # fmt: skip


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data", "-d", required=True, help="The data, as `archsearch distill` takes them.")
@click.option("--teacher", "-t", help="Name, hf-hub:owner/name or folder of a teacher: to be compared with.")
@click.option("--baseline", "-b", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder of another student, such as the same network trained without a teacher.")  # fmt: skip
@click.option("--out", "-o", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for evaluation.json, confusion.png and calibration.png.")  # fmt: skip
@click.option(
    "--split",
    "part",
    type=click.Choice(get_args(Part)),
    default="auto",
    show_default=True,
    help="Examples that are measured; auto takes the test split, and all where the data has none.",
)
@on_broken_option
@data_settings_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print what evaluation.json holds.")
def evaluate(
    folder: Path,
    data: str,
    teacher: str | None,
    baseline: Path | None,
    out: Path | None,
    part: Part,
    on_broken: str | None,
    settings: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Measure a student on examples held out: accuracy, likeness to its teacher, calibration, and every class.

    FOLDER holds model.safetensors and config.json, as archsearch or its own library saved them.
    """
    from archsearch import evaluate as room
    from archsearch.export import load_student, load_task, refresh

    where = resolve(device)
    task = load_task(folder)
    domain = domains.of(task)
    with progress() as tell:
        flags = {"on_broken": on_broken}
        measured, task = open_data(data, task, flags, part=part, folder=folder, settings=settings, tell=tell)
    dataset, notes = measured.dataset, list(measured.notes)
    networks: dict[str, Network] = {room.STUDENT: room.network(load_student(folder).to(where), task)}
    if baseline is not None:
        require_kind(baseline, task, "--baseline")
        domain.check_beside(baseline.name, baseline, folder, dataset.task, "--baseline")
        other = load_task(baseline)
        networks[room.NO_TEACHER] = _in_order(
            room.network(load_student(baseline).to(where), other), baseline.name, other, task
        )
    if teacher is not None:
        asked = _teacher(
            teacher, replace(dataset, task=replace(dataset.task, class_names=task.class_names)), folder, where
        )
        networks[room.TEACHER], notes = asked.logits, [*notes, *asked.notes]
    for note in notes:
        click.echo(f"note: {note.detail}", err=True)
    with progress() as tell:
        logits = room.answers(networks, dataset.test, report=lambda done, of: tell("measuring", done, of))
    rows = room.compare(logits, dataset.test, task)
    if out is not None:
        room.write_evaluation(out, rows, task, data_sha256=dataset.sha256, split=measured.part)
        if out.resolve() == folder.resolve():
            refresh(folder)
    if as_json:
        click.echo(json.dumps(room.as_json(rows, task, data_sha256=dataset.sha256, split=measured.part), indent=2))
        return
    show(rows, "given" if measured.part == "all" else measured.part, task)
    if out is not None:
        click.echo(f"in {out}")


def open_data(
    text: str,
    task: Any,
    flags: Mapping[str, Any] | None = None,
    *,
    part: Part = "auto",
    folder: Path | None = None,
    settings: Sequence[str] = (),
    tell: Tell | None = None,
) -> tuple[Measured, Any]:
    """The data `--data` names, read as the student wants them; and the student's task on them.

    Args:
        flags: What flags say of files beyond that.
        part: Which examples are measured.
        folder: Of the student, which may tell what data it learned from.
        settings: Other fields of the data, `FIELD=VALUE`.
        tell: Told how far reading is.
    """
    domain, learned = domains.of(task), _learned(folder)
    described = _described(text, task, flags or {}, settings, learned.get("data") or {})
    measured = domain.load_measured(
        described,
        task,
        part,
        folder,
        learned.get("sha256"),
        tell and (lambda done, of: tell("reading", done, of)),
    )
    found = measured.dataset.task
    # What was saved says neither what kind of labels there are nor, always, their names.
    shares, names = found.prevalence, task.class_names or found.class_names
    return measured, replace(task, kind=found.kind, prevalence=shares, class_names=names)


def _described(
    text: str, task: Any, flags: Mapping[str, Any], settings: Sequence[str], learned: Mapping[str, Any]
) -> Any:
    """The data as a request would name them."""
    from archsearch.request import DataSpec

    spec, domain = data_of(text), domains.of(task)
    if spec["kind"] not in domains.DATA:
        raise InvalidRequest(f"{text} lives in a service; give a file or folder", field="--data")
    if domains.DATA[spec["kind"]] != domain.name:
        theirs = domains.get(domains.DATA[spec["kind"]]).examples
        raise InvalidRequest(f"these are {theirs}, and the network was trained on {domain.examples}", field="--data")
    spec = with_images({**domain.as_read(spec, task, learned), **dict(settings_of(settings))}, flags)
    try:
        return TypeAdapter[Any](DataSpec).validate_python(spec)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(
            f"{text} cannot be read as {domain.told(task)}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            field="--data",
        ) from None


def _learned(folder: Path | None) -> dict[str, Any]:
    """What a student, or a teacher trained here, learned from, as far as its folder tells: `sha256`, and the `data` of
    its request."""
    from archsearch.export.manifest import read_manifest

    if folder is None:
        return {}
    student, teacher = read_manifest(folder), read_kept(folder / TRAINING)
    if student:
        told = {"sha256": (student.get("data") or {}).get("sha256"), "request": student.get("request")}
    elif isinstance(teacher, dict):
        told = {"sha256": teacher.get("data"), "request": teacher.get("request")}
    else:
        return {}
    request = told["request"] if isinstance(told["request"], dict) else {}
    data = request.get("data")
    return {"sha256": told["sha256"], "data": data if isinstance(data, dict) else {}}


def require_kind(folder: Path, task: Any, field: str) -> None:
    """Raise InvalidRequest unless a folder's network is of a task's domain."""
    from archsearch.export import domain_of

    found, domain = domain_of(folder), domains.of(task)
    if found is not domain:
        detail = f"{folder.name} was trained on {found.examples}, the student on {domain.examples}"
        raise InvalidRequest(detail, field=field)


def _in_order(network: Network, name: str, own: Any, task: Any) -> Network:
    """A network whose answers stand in the order of a task's classes; refused where it names them otherwise."""
    from archsearch.teachers.classes import order_of

    namings = (own.class_names,) if own.class_names else ()
    order, _ = order_of(name, namings, own.classes, task, field="--baseline")
    return network if order is None else (lambda x: network(x)[:, list(order)])


@contextmanager
def progress() -> Iterator[Tell]:
    """A bar on standard error, told what is being done, how much of it is, and of how much."""
    bar = Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
    )
    with bar:
        line = bar.add_task("", total=None)

        def tell(what: str, done: int, of: int) -> None:
            bar.update(line, description=what, completed=done, total=of)

        yield tell


def show(rows: Mapping[str, Row], part: str, task: Any) -> None:
    """The networks side by side, by the metrics of a task, and the classes the student is worst at."""
    console, student = Console(), rows["student"].evaluation
    examples = domains.of(task).examples
    table = Table(title=f"{student.images:,} {part} {examples}")
    for title in ("", *(_CALLED[name] for name in rows)):
        table.add_column(title, overflow="fold")
    figures = {name: _figures(row, domains.metrics(task)) for name, row in rows.items()}
    for title in figures["student"]:
        cells = [figures[name][title] for name in rows]
        if any(cells):
            table.add_row(title, *cells)
    console.print(table)
    head, worst = _worst(rows["student"], examples)
    if worst:
        weak = Table(title="Where it is weakest")
        for title in head:
            weak.add_column(title, overflow="fold")
        for line in worst:
            weak.add_row(*map(Text, line))
        console.print(weak)


def _figures(row: Row, metrics: Sequence[Metric]) -> dict[str, str]:
    known = evaluate_figures(row)
    others = {
        metric.name: written(known[metric.key], metric.unit)
        for metric in metrics
        if metric.key in known and metric.key not in _TOLD
    }
    found, like = row.evaluation, row.to_teacher
    if isinstance(found, MultiLabelEvaluation):
        quality, same = {"mAP": f"{found.mean_ap:.2f} %"}, "same labels as the teacher"
    else:
        same = "same answer as the teacher"
        top1, top5 = found.top1_acc, found.top5_acc
        quality = {
            "top-1, with its 95 % interval": f"{top1.percent:.2f} % ({top1.low:.2f}–{top1.high:.2f})",
            "balanced accuracy": f"{found.balanced_acc:.2f} %" if found.uneven else "",
            "top-5": "" if top5 is None else f"{top5.percent:.2f} %",
        }
    return {
        **quality,
        **others,
        same: "" if like is None else f"{like.agreement:.2f} %",
        "KL to the teacher": "" if like is None else f"{like.kl:.3g} nats",
        "calibration error": f"{found.ece:.2f} %",
        "NLL": f"{found.nll:.3g} nats",
    }


def _worst(row: Row, examples: str) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    found = row.evaluation
    if isinstance(found, MultiLabelEvaluation):
        known = [each for each in found.per_label if each.average_precision is not None]
        known = sorted(known, key=lambda each: each.average_precision or 0.0)[:_WORST]
        return ("label", examples, "average precision"), [
            (each.name, count(each.images), f"{each.average_precision:.2f} %") for each in known
        ]
    wrong = [each for each in found.per_class if each.accuracy is not None and each.accuracy < 100]
    wrong = sorted(wrong, key=lambda each: each.accuracy or 0.0)[:_WORST]
    return ("class", examples, "accuracy", "most often taken for"), [
        (each.name, count(each.images), f"{each.accuracy:.2f} %", f"{each.confused_with} ({each.confused})")
        for each in wrong
    ]


def _teacher(text: str, dataset: Any, folder: Path, device: str) -> Teacher:
    from archsearch.request import TeacherSpec

    named, task = teacher_of(text), dataset.task
    if named["kind"] == "teacher":
        raise InvalidRequest(f"{text} lives in a service; give its name or a folder", field="--teacher")
    domain = domains.of(task)
    if named["kind"] == "local" and (Path(named["path"]) / CONFIG).is_file():
        require_kind(Path(named["path"]), task, "--teacher")
    source = TypeAdapter[Any](TeacherSpec).validate_python(named)
    found = domain.load_teacher(source, None, dataset, device=device)
    domain.check_beside(text, found, folder, task, "--teacher")
    return found


commands = (evaluate,)
