"""The command that lists networks with weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from archsearch.cli.display import show_listing
from archsearch.domains.images.sizes import ImageSizes
from archsearch.pretrained.facts import facts
from archsearch.pretrained.listing import Listed, listed
from archsearch.pretrained.stored import at_hand
from archsearch.progress import count
from archsearch.settings import pretrained_dir, user_cache


@click.command()
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Networks, each in a folder as timm saves one.  [default: ARCHSEARCH_PRETRAINED_DIR]")  # fmt: skip
@click.option("--classes", type=click.IntRange(2), default=10, show_default=True)
@click.option("--image-size", type=click.IntRange(4, 1024), default=32, show_default=True,
              help="Height and width of the images, in pixels.")  # fmt: skip
@click.option("--in-chans", type=click.IntRange(1, 16), default=3, show_default=True, help="Channels of the images.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def pretrained(folder: Path | None, classes: int, image_size: int, in_chans: int, as_json: bool) -> None:
    """List the networks with weights on this machine, which a search may take for students."""
    task = ImageSizes(image_size=image_size, in_chans=in_chans).task(classes)
    stored = at_hand(folder or pretrained_dir())
    rows = listed(stored, task, user_cache() / "evidence", facts)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif rows:
        title = f"Networks with weights, for images of {image_size}×{image_size} pixels and {classes} classes"
        show_listing(title, ((row.name, _told(row)) for row in rows))
    else:
        click.echo(
            "no network with weights is at hand: name one of timm's where you search, which fetches it from the hub "
            "(--network resnet18.a1_in1k), or set ARCHSEARCH_PRETRAINED_DIR to a folder of them"
        )


def _told(row: Listed) -> list[str]:
    where = {"hub": "in the hub's cache", "folder": "in the folder"}[row.source]
    if row.refuses is not None:
        return [f"not here: {row.refuses}", where]
    channels, height, width = row.trained_on or (0, 0, 0)
    trained = f"trained on {height}×{width} pixels of {channels} channel{'s' if channels != 1 else ''}"
    return [
        f"{count(row.params or 0)} parameters, {count(row.macs or 0)} MACs",
        f"{row.architecture}, {trained}; {where}; licence {row.licence or 'not told'}",
    ]


commands = (pretrained,)
