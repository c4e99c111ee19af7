"""`archsearch evaluate`: what a student is worth on the test split, beside its teacher and a student without one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from archsearch import domains
from archsearch.cli.inputs import data_of, on_broken_option, teacher_of, with_images
from archsearch.data.metrics import Metric
from archsearch.domains.images.measured import Measured, Part, load_measured
from archsearch.domains.images.task import ImageDataset, ImageTask
from archsearch.errors import InvalidRequest
from archsearch.evaluate import MultiLabelEvaluation, Network, Row
from archsearch.evaluate import figures as evaluate_figures
from archsearch.outfolder import TRAINING
from archsearch.progress import count
from archsearch.unit import written
from archsearch.whole import read_kept

if TYPE_CHECKING:
    from archsearch.teachers import Teacher

Tell = Callable[[str, int, int], None]

_CALLED = {"student": "this student", "no_teacher": "the other student", "teacher": "teacher"}
_WORST = 5
# Metrics that have words of their own in the table.
_TOLD = ("acc", "balanced_acc", "map", "nll")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data", "-d", required=True, help="digits, an .npz file, or a folder or .zip of images.")
@click.option("--teacher", "-t", help="timm model name, hf-hub:owner/name, or a timm folder: to be compared with.")
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
    help="Images that are measured; auto takes the test split, and all where the data has none.",
)
@on_broken_option
@click.option("--json", "as_json", is_flag=True, help="Print what evaluation.json holds.")
def evaluate(
    folder: Path,
    data: str,
    teacher: str | None,
    baseline: Path | None,
    out: Path | None,
    part: Part,
    on_broken: str | None,
    as_json: bool,
) -> None:
    """Measure a student on images held out: accuracy, likeness to its teacher, calibration, and every class.

    FOLDER holds model.safetensors and config.json, as archsearch or timm saved them.
    """
    from archsearch import evaluate as room
    from archsearch.export import load_student, load_task, refresh

    task = load_task(folder)
    with progress() as tell:
        measured, task = open_data(data, task, {"on_broken": on_broken}, part=part, folder=folder, tell=tell)
    dataset, notes = measured.dataset, list(measured.notes)
    networks: dict[str, Network] = {room.STUDENT: room.network(load_student(folder), task)}
    if baseline is not None:
        other = load_task(baseline)
        require_fit(baseline.name, other.classes, other.in_chans, dataset.task, field="--baseline")
        require_size(baseline.name, other, dataset.task, field="--baseline")
        networks[room.NO_TEACHER] = _in_order(room.network(load_student(baseline), other), baseline.name, other, task)
    if teacher is not None:
        asked = _teacher(teacher, replace(dataset, task=replace(dataset.task, class_names=task.class_names)))
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
    show(rows, "given" if measured.part == "all" else measured.part, domains.metrics(task))
    if out is not None:
        click.echo(f"in {out}")


def open_data(
    text: str,
    task: ImageTask,
    images: Mapping[str, Any] | None = None,
    *,
    part: Part = "auto",
    folder: Path | None = None,
    tell: Tell | None = None,
) -> tuple[Measured, ImageTask]:
    """The data `--data` names, images made as the student wants them; and the student's task on them.

    Args:
        images: What flags say of image files beyond that.
        part: Which images are measured.
        folder: Of the student, which may tell what data it learned from.
        tell: Told how far reading is.
    """
    from archsearch.request import DataSpec

    spec = data_of(text)
    if spec["kind"] == "image_folder":
        spec |= {"image_size": [task.height, task.width], "fit": task.fit}
    spec = with_images(spec, images or {})
    try:
        described = TypeAdapter[Any](DataSpec).validate_python(spec)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(
            f"{text} cannot be read for a student of {task.height}×{task.width} pixels: "
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            field="--data",
        ) from None
    measured = load_measured(
        described,
        task,
        part,
        learned_from=_learned_from(folder) if folder is not None else None,
        listener=tell and (lambda done, of: tell("reading", done, of)),
    )
    found = measured.dataset.task
    require_fit("the student", task.classes, task.in_chans, found, field="--data")
    require_size("the student", task, found, field="--data")
    # What timm saved says neither what kind of labels there are nor, always, their names.
    shares, names = found.prevalence, task.class_names or found.class_names
    return measured, replace(task, kind=found.kind, prevalence=shares, class_names=names)


def _learned_from(folder: Path) -> str | None:
    """The sha256 of the data a student, or a teacher trained here, learned from, as far as its folder tells."""
    from archsearch.export.manifest import read_manifest

    student, teacher = read_manifest(folder), read_kept(folder / TRAINING)
    if student:
        return (student.get("data") or {}).get("sha256")
    return teacher.get("data") if isinstance(teacher, dict) else None


def require_fit(name: str, classes: int, in_chans: int, task: ImageTask, *, field: str) -> None:
    """Raise InvalidRequest unless a network's classes and channels are the data's."""
    if classes != task.classes:
        raise InvalidRequest(f"{name} tells {classes} classes apart, the data has {task.classes}", field=field)
    if in_chans != task.in_chans:
        raise InvalidRequest(f"{name} takes {in_chans} channels, the data has {task.in_chans}", field=field)


def require_size(name: str, own: ImageTask, task: ImageTask, *, field: str) -> None:
    """Raise InvalidRequest unless a network takes images as large as the data's."""
    if (task.height, task.width) != (own.height, own.width):
        raise InvalidRequest(
            f"its images are {task.height}×{task.width} pixels, {name} takes {own.height}×{own.width}"
            if field == "--data"
            else f"{name} takes images of {own.height}×{own.width} pixels, the data's are {task.height}×{task.width}",
            field=field,
        )


def _in_order(network: Network, name: str, own: ImageTask, task: ImageTask) -> Network:
    """A network whose answers stand in the order of a task's classes; refused where it names them otherwise."""
    from archsearch.teachers.classes import order_of

    namings = (own.class_names,) if own.class_names else ()
    order, _ = order_of(name, namings, own.classes, task, field="--baseline")
    return network if order is None else (lambda x_BCHW: network(x_BCHW)[:, list(order)])


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


def show(rows: Mapping[str, Row], part: str = "test", metrics: Sequence[Metric] = ()) -> None:
    """The networks side by side, and the classes the student is worst at.

    Args:
        metrics: Of the task, whose values stand there beside the usual ones.
    """
    console, student = Console(), rows["student"].evaluation
    table = Table(title=f"{student.images:,} {part} images")
    for title in ("", *(_CALLED[name] for name in rows)):
        table.add_column(title, overflow="fold")
    figures = {name: _figures(row, metrics) for name, row in rows.items()}
    for title in figures["student"]:
        cells = [figures[name][title] for name in rows]
        if any(cells):
            table.add_row(title, *cells)
    console.print(table)
    head, worst = _worst(rows["student"])
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


def _worst(row: Row) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    found = row.evaluation
    if isinstance(found, MultiLabelEvaluation):
        known = [each for each in found.per_label if each.average_precision is not None]
        known = sorted(known, key=lambda each: each.average_precision or 0.0)[:_WORST]
        return ("label", "images", "average precision"), [
            (each.name, count(each.images), f"{each.average_precision:.2f} %") for each in known
        ]
    wrong = [each for each in found.per_class if each.accuracy is not None and each.accuracy < 100]
    wrong = sorted(wrong, key=lambda each: each.accuracy or 0.0)[:_WORST]
    return ("class", "images", "accuracy", "most often taken for"), [
        (each.name, count(each.images), f"{each.accuracy:.2f} %", f"{each.confused_with} ({each.confused})")
        for each in wrong
    ]


def _teacher(text: str, dataset: ImageDataset) -> Teacher:
    from archsearch.request import TeacherSpec
    from archsearch.teachers import at_best_size, load_teacher

    named, task = teacher_of(text), dataset.task
    if named["kind"] == "teacher":
        raise InvalidRequest(f"{text} lives in a service; give a timm name or a folder", field="--teacher")
    found = load_teacher(TypeAdapter[Any](TeacherSpec).validate_python(named), task=task)
    require_fit(text, found.num_classes, found.in_chans, task, field="--teacher")
    return at_best_size(found, dataset)


commands = (evaluate,)
