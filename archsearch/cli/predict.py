"""`archsearch predict`: what a student sees in new photos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from archsearch.cli.evaluate import progress
from archsearch.errors import DataError
from archsearch.photos import Form, Prediction


@click.command()
@click.argument("student", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Most classes told of an image.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Least probability of a label, where images may have many.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(get_args(Form)), default="auto", show_default=True,
              help="Which of the student's files answers; auto takes ONNX where it is there.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print names and probabilities as JSON.")
def predict(student: Path, images: tuple[Path, ...], top: int, threshold: float, form: Form, as_json: bool) -> None:
    """Name what photos show, read exactly as the training read its own.

    STUDENT is the folder of a student, IMAGES are files, folders of them, or zips. It works offline. An image that
    cannot be read is named and left out, and the exit code is 1.
    """
    from archsearch.photos import predict

    with progress() as tell:
        found = predict(
            student, images, top=top, threshold=threshold, form=form, listener=lambda done, of: tell("photos", done, of)
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps([_row(one) for one in found], indent=2, ensure_ascii=False))
    else:
        _show(found)
    broken = [one for one in found if one.error is not None]
    if broken:
        raise DataError(f"{len(broken):,} of {len(found):,} images could not be read")


def _row(one: Prediction) -> dict[str, object]:
    return {
        **asdict(one),
        "file": _as_text(one.file),
        "names": [{"name": name, "probability": chance} for name, chance in one.names],
    }


def _show(found: Sequence[Prediction]) -> None:
    for one in found:
        if one.error is not None:
            click.echo(f"{_as_text(one.file)}: {one.error}", err=True)
            continue
        told = ", ".join(f"{name} {100 * chance:.2f} %" for name, chance in one.names)
        click.echo(f"{_as_text(one.file)}: {told or 'none of its labels'}")


def _as_text(name: str) -> str:
    """A file's name where only text can be written: bytes of it that are none as their numbers."""
    return name.encode("utf-8", "backslashreplace").decode()


commands = (predict,)
