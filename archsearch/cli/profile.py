"""Commands about devices: which are here, and how fast a space's networks are on one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from archsearch.cli.sizes import size_options, sized_task
from archsearch.data import Task
from archsearch.device import here
from archsearch.errors import InvalidRequest
from archsearch.hardware.devices import devices as all_devices
from archsearch.spaces import Space
from archsearch.spaces import spaces as all_spaces
from archsearch.whole import write_whole


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def devices(as_json: bool) -> None:
    """List what can be computed on here, and the devices whose latency can be limited, or why they are not here."""
    rows = [
        {"name": device.name, "for": "latency", "doc": device.doc, "unavailable": device.available()}
        for device in all_devices
    ]
    computing = [
        {"name": name, "for": "computing", "doc": called or "This machine's processor.", "unavailable": None}
        for name, called in here().items()
    ]
    if as_json:
        click.echo(json.dumps([*computing, *rows], indent=2))
        return
    found = Table(title="What can be computed on: --device")
    for column in ("device", "what it is"):
        found.add_column(column, overflow="fold")
    for row in computing:
        found.add_row(row["name"], row["doc"])
    Console().print(found)
    table = Table(title="What latency can be limited on: --latency-device")
    for column in ("device", "here", "how networks are run"):
        table.add_column(column, overflow="fold")
    for row in rows:
        reason = row["unavailable"]
        table.add_row(row["name"], "yes" if reason is None else f"no: {reason}", row["doc"])
    Console().print(table)


@click.command()
@click.option(
    "--space",
    "names",
    multiple=True,
    required=True,
    help="Space to time; give it again for more. `archsearch spaces` lists them.",
)
@click.option(
    "--latency-device",
    "--device",
    "device",
    default="cpu-torch",
    show_default=True,
    help="How to run them; `archsearch devices` lists what is here.",
)
@size_options
@click.option("--batch", type=click.IntRange(1, 1024), default=1, show_default=True, help="Examples in a batch.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="CPU threads to use.")
@click.option(
    "--members",
    type=click.IntRange(8, 250),
    default=20,
    show_default=True,
    help="Networks to time in each space; more predict the others better.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which networks are timed.")
@click.option("--name", help="A name for people.  [default: the device and the processor]")
@click.option("--out", type=click.Path(dir_okay=False, writable=True, path_type=Path), required=True,
              help="File to write, e.g. profile.json.")  # fmt: skip
def profile(
    names: tuple[str, ...],
    device: str,
    domain: str | None,
    classes: int,
    batch: int,
    threads: int,
    members: int,
    seed: int,
    name: str | None,
    out: Path,
    **sizes: int | None,
) -> None:
    """Time some networks of a space on this machine, and write what others' searches need to know.

    \b
    On the machine that counts:  archsearch profile --space resnet_cifar --out board.json
    Where there is a teacher:    archsearch search … --latency-device board.json --latency-ms 5
    With a server:               POST board.json to /v1/profiles and give the id as --latency-device

    Sizes, classes and batch have to be those of the search: of texts --max-length and --vocab-size, of images
    --image-size and --in-chans.
    """
    from archsearch.hardware.latency import describe_machine, require_device
    from archsearch.hardware.predict import calibrate
    from archsearch.hardware.profile import FEWEST_ENTRIES, MOST_ENTRIES, make_profile

    task = sized_task(domain or _domain_of(names, sizes), classes, sizes)
    require_device(device, field="--latency-device")
    chosen = [_space(each, task) for each in dict.fromkeys(names)]
    if members * len(chosen) > MOST_ENTRIES:
        raise InvalidRequest(
            f"{members} of each of {len(chosen)} spaces is more than the {MOST_ENTRIES} networks a profile holds",
            field="--members",
        )
    for space in chosen:
        if (there := space.cardinality(task)) < FEWEST_ENTRIES:
            raise InvalidRequest(
                f"{space.name} has {there} networks at this size and a profile takes at least {FEWEST_ENTRIES}",
                field="--space",
            )
    if not out.parent.is_dir():
        raise InvalidRequest(f"{out.parent} is no folder; make it first", field="--out")
    found = {}
    with _bar() as bar:
        for space in chosen:
            found[space.name] = calibrate(
                space,
                task,
                device,
                batch,
                n=members,
                seed=seed,
                threads=threads,
                report=_reporter(bar, space, members),
            )
    machine = describe_machine()
    made = make_profile(name or f"{device} on {machine['processor']}"[:200], device, machine, task, found)
    write_whole(out, made.model_dump_json(indent=1) + "\n")
    table = Table(title=made.name)
    for column in ("space", "members", "fastest", "slowest", "error on members left out"):
        table.add_column(column)
    for space_name, calibration in found.items():
        times_ms = [latency.median_ms for latency in calibration.latencies]
        table.add_row(
            space_name,
            str(len(times_ms)),
            f"{min(times_ms):.3g} ms",
            f"{max(times_ms):.3g} ms",
            f"{100 * calibration.predictor.error:.1f} %",
        )
    Console().print(table)
    click.echo(f"written to {out}")


def _domain_of(names: tuple[str, ...], sizes: Mapping[str, int | None]) -> str | None:
    """Of the first space, where neither a domain nor a size is named."""
    if any(value is not None for value in sizes.values()):
        return None
    return all_spaces.get(names[0], field="--space").domain


def _space(name: str, task: Task) -> Space:
    space = all_spaces.get(name, field="--space")
    space.require(task, field="--space")
    return space


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("networks timed"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
    )


def _reporter(bar: Progress, space: Space, members: int) -> Callable[[int, int], None]:
    line = bar.add_task(space.name, total=members)

    def report(done: int, total: int) -> None:
        bar.update(line, completed=done, total=total)

    return report


commands = (profile, devices)
