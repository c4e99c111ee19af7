"""Commands that work here, without a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import click

from archsearch.cli.inputs import (
    build_request,
    data_of,
    device_option,
    image_options,
    images_again,
    json_of,
    request_options,
    settings_of,
    size_of,
    with_images,
)
from archsearch.cli.outcome import judged, tell
from archsearch.memory import keep_freed
from archsearch.progress import Display, count
from archsearch.result import Result

out_option = click.option("--out", "-o", type=click.Path(file_okay=False, path_type=Path), required=True,
                          help="Folder for what is made; the same command again goes on after a crash.")  # fmt: skip
overwrite_option = click.option("--overwrite", is_flag=True, help="Take a folder that holds something else.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.command()
@request_options
@out_option
@overwrite_option
@json_option
def search(out: Path, overwrite: bool, as_json: bool, **flags: Any) -> None:
    """Find the best student here, without training anything."""
    _tell(_run("search", flags, out, overwrite), out, as_json)


@click.command()
@request_options
@out_option
@overwrite_option
@json_option
def distill(out: Path, overwrite: bool, as_json: bool, **flags: Any) -> None:
    """Find a student and distil it here; with --architecture, distil that one."""
    _tell(_run("search_and_distill", flags, out, overwrite), out, as_json)


@click.command("train-teacher")
@click.option("--data", "-d", required=True, help="digits, an .npz file, a folder or .zip of class folders, or texts "
              "(.csv, .tsv, .jsonl).")  # fmt: skip
@click.option("--model", help="timm model name.  [default: cifar_resnet]")
@click.option("--model-args", default="{}", help="JSON for timm.create_model, e.g. '{\"depths\": [9, 9, 9]}'.")
@click.option("--pretrained", "--from", "pretrained", is_flag=False, flag_value="", metavar="[NAME|FOLDER|FILE]",
              help="Fine-tune trained weights instead: timm's own of --model, or those of a timm name, "
              "hf-hub:owner/name, a folder that timm (of texts, transformers) saved, or a file.")  # fmt: skip
@click.option("--input-size", callback=size_of, help="Pixels the network is shown, if others than the images': "
              "96, or 96x128 (height x width).")  # fmt: skip
@click.option("--recipe", help="Published training whose values fields left out take: short, cifar, imagenet.")
@click.option("--epochs", type=int, help="Passes over the training split.  [default: by the number of examples]")
@click.option("--batch-size", type=int, help="Examples in a step.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--augment", help="none, crop, crop_flip, resized_crop, strong.")
@click.option("--seed", type=int, help="Seed of initial weights, order and augmentation.")
@device_option
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE",
              help="Any other field of the recipe, or data.FIELD of the data: --set data.max_length=64.")  # fmt: skip
@image_options
@out_option
@overwrite_option
@json_option
def train_teacher(
    data: str, model: str | None, model_args: str, pretrained: str | None, input_size: Any,
    device: str, settings: tuple[str, ...], out: Path, overwrite: bool, as_json: bool, **flags: Any,
) -> None:  # fmt: skip
    """Train a teacher on the labels alone, or fine-tune one, and save it as timm or transformers does."""
    from archsearch.teaching import train_teacher

    keep_freed()
    spec = {name: flags.pop(name) for name in _RECIPE_FLAGS}
    said = dict(settings_of(settings))
    of_data = {name: value for name, value in said.items() if name.startswith(_OF_DATA)}
    spec = {name: value for name, value in spec.items() if value is not None}
    spec |= {name: value for name, value in said.items() if name not in of_data}
    described = {name.removeprefix(_OF_DATA): value for name, value in of_data.items()}
    with Display() as display:
        result = train_teacher(
            {**with_images(data_of(data), flags), **described},
            out,
            model=model,
            model_args=json_of(model_args, "--model-args"),
            pretrained=(pretrained or True) if pretrained is not None else False,
            input_size=input_size,
            spec=spec,
            device=device,
            overwrite=overwrite,
            listener=display.show,
        )
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    reached, where = judged(result, result["judged_by"])
    click.echo(result["told"])
    click.echo(f"{reached} {where}, {count(result['params'])} parameters")
    click.echo(f"in {out}")
    again = "".join(f" --set {setting}" for setting in settings if setting.startswith(_OF_DATA))
    source = f"{data}{images_again(flags)}{again}"
    click.echo(f"next: archsearch distill --teacher {out} --data {source} --params-ratio 0.1 --out student")


_OF_DATA = "data."
_RECIPE_FLAGS = ("recipe", "epochs", "batch_size", "lr", "augment", "seed")


def _tell(result: Result, out: Path, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        tell(cast(Mapping[str, Any], result), str(out))


def _run(kind: str, flags: dict[str, Any], out: Path, overwrite: bool) -> Result:
    from archsearch.local import run

    keep_freed()
    request = build_request(kind, flags)
    with Display() as display:
        result = run(request, out, overwrite=overwrite, listener=display.show)
        for warning in result["warnings"]:  # an earlier attempt may have been told of some
            display.warn(cast(Mapping[str, str], warning))
    return result


commands = (search, distill, train_teacher)
