"""`archsearch predict`: what a student says of new examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click

from archsearch.cli.evaluate import progress
from archsearch.cli.inputs import device_option
from archsearch.data.prediction import Form, Prediction
from archsearch.errors import DataError

# Letters of an example that are shown.
_SHOWN = 60


@click.command()
@click.argument("student", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("examples", nargs=-1, required=True)
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Most classes told of an example.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Least probability of a label, where examples may have many.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(get_args(Form)), default="auto", show_default=True,
              help="Which of the student's files answers; auto takes ONNX where it is there.")  # fmt: skip
@click.option("--column", "columns", multiple=True,
              help="Column of a table to read where its name does not tell; twice for pairs.")  # fmt: skip
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print names and probabilities as JSON.")
def predict(
    student: Path,
    examples: tuple[str, ...],
    top: int,
    threshold: float,
    form: Form,
    columns: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Name what new examples are, read exactly as the training read its own.

    \b
    archsearch predict student photo.jpg holiday.zip        # of images: files, folders of them, or zips
    archsearch predict student "a fine film" reviews.csv    # of texts: themselves, or a csv, tsv, jsonl or txt file

    STUDENT is the folder of a student. It works offline. An example that cannot be read is named and left out, and the
    exit code is 1.
    """
    from archsearch.export import domain_of
    from archsearch.predictions import predict

    called = domain_of(student).examples
    with progress() as tell:
        found = predict(
            student,
            examples,
            top=top,
            threshold=threshold,
            form=form,
            columns=columns,
            device=device,
            listener=lambda done, of: tell(called, done, of),
        )
    if as_json:
        click.echo(json.dumps([_row(one) for one in found], indent=2, ensure_ascii=False))
    else:
        _show(found)
    broken = [one for one in found if one.error is not None]
    if broken:
        raise DataError(f"{len(broken):,} of {len(found):,} {called} could not be read")


def _row(one: Prediction) -> dict[str, object]:
    # What a domain has nothing to say of is left out.
    more = {name: value for name, value in (("example", list(one.example)), ("note", one.note)) if value}
    return {
        "file": _as_text(one.file),
        "error": one.error,
        **more,
        "names": [{"name": name, "probability": chance} for name, chance in one.names],
    }


def _show(found: Sequence[Prediction]) -> None:
    for one in found:
        if one.error is not None:
            click.echo(f"{_called(one)}: {one.error}", err=True)
            continue
        told = ", ".join(f"{name} {100 * chance:.2f} %" for name, chance in one.names)
        click.echo(f"{_called(one)}: {told or 'none of its labels'}")
        if one.note is not None:
            click.echo(f"note: {_called(one)}: {one.note}", err=True)


def _called(one: Prediction) -> str:
    """An example by the file it is from, or by itself."""
    if one.file or not one.example:
        return _as_text(one.file)
    return " | ".join(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…" for text in map(_one_line, one.example))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _as_text(name: str) -> str:
    """A file's name where only text can be written: bytes of it that are none as their numbers."""
    return name.encode("utf-8", "backslashreplace").decode()


commands = (predict,)
