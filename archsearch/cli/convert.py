"""From a checkpoint to a teacher, in the shell."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsearch.cli.inputs import json_of, size_of
from archsearch.errors import InvalidRequest
from archsearch.progress import count

if TYPE_CHECKING:
    from archsearch.teachers.convert import Conversion


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--out", "-o", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="Folder for the teacher.")  # fmt: skip
@click.option("--architecture", "--timm", metavar="NAME", help="timm model name, where several have the same tensors.")
@click.option(
    "--model-args", help="JSON for timm.create_model that shapes do not tell, e.g. '{\"strides\": [2, 1, 2, 2, 2]}'."
)
@click.option("--num-classes", type=int, help="Classes it should know; refused where it does not.")
@click.option("--classes", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="File with the classes' names in the head's order, one a line.")  # fmt: skip
@click.option("--mean", help="Pixel means it was trained with, of 0-1: 0.485,0.456,0.406.")
@click.option("--std", help="Pixel deviations it was trained with.")
@click.option("--input-size", callback=size_of, help="Pixels it was trained at: 32, or 48x64 (height x width).")
@click.option("--key", help="Where in the file the network lies, of several.")
@click.option("--overwrite", is_flag=True, help="Replace the teacher in the folder.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def convert(file: Path, as_json: bool, **flags: Any) -> None:
    """Make a teacher of a PyTorch checkpoint or safetensors file.

    Nothing but tensors is read of it. The architecture, its classes and channels are told from the tensors' names and
    shapes.
    """
    from archsearch.teachers.convert import convert_teacher

    found = convert_teacher(
        file,
        flags["out"],
        architecture=flags["architecture"],
        model_args=None if flags["model_args"] is None else json_of(flags["model_args"], "--model-args"),
        num_classes=flags["num_classes"],
        classes=_lines(flags["classes"]),
        mean=_numbers(flags["mean"], "--mean"),
        std=_numbers(flags["std"], "--std"),
        input_size=flags["input_size"],
        key=flags["key"],
        overwrite=flags["overwrite"],
    )
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, default=str))
    else:
        _show(found)


def _show(found: Conversion) -> None:
    args = f" {json.dumps(found.model_args)}" if found.model_args else ""
    click.echo(f"{found.architecture}{args}: {found.num_classes} classes, {count(found.params)} parameters")
    if found.same:
        click.echo(f"the same network under other names: {', '.join(found.same)}")
    if found.key:
        others = f"; also there: {', '.join(found.others)} (--key)" if found.others else ""
        click.echo(f"found in the file at {found.key}{others}")
    if found.left_out:
        more = f" and {len(found.left_out) - 3} more" if len(found.left_out) > 3 else ""
        click.echo(f"left out, for they are not the network's: {', '.join(found.left_out[:3])}{more}")
    for note in found.notes:
        click.echo(f"note: {note}")
    click.echo(f"in {found.folder}")
    if found.num_classes:
        click.echo(f"next: archsearch distill --teacher {found.folder} --data DATA --params-ratio 0.1 --out student")
    else:
        click.echo(f"next: archsearch train-teacher --pretrained {found.folder} --data DATA --out teacher")


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is no text: {error}", field="--classes") from None


def _numbers(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.strip("[]() ").split(",")]
    except ValueError:
        raise InvalidRequest(f"{text!r} is no list of numbers, such as 0.485,0.456,0.406", field=option) from None


commands = (convert,)
