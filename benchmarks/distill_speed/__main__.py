"""The benchmark's flags."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from archsearch.data.task import Dataset
from archsearch.memory import keep_freed
from benchmarks import distill_speed
from benchmarks.distill_speed import precisions
from benchmarks.distill_speed.images import load_images
from benchmarks.distill_speed.protocol import measure
from benchmarks.distill_speed.report import Report, cores, machine, show, summarise
from benchmarks.distill_speed.setting import Pair, Setting

STEPS = {"cpu": 10, "cuda": 200}
STEPS_AT = 64  # the batch size that is said for; larger batches do fewer steps


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.distill_speed",
        description=distill_speed.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="ours and the floor's; auto is measured, as for a long training",
    )
    parser.add_argument("--data", type=Path, help="the folder with CIFAR-100; without it the images are noise")
    parser.add_argument("--pairs", nargs="+", type=pair, default=[Pair("56", "20"), Pair("32x4", "8x4")])
    parser.add_argument("--batches", nargs="+", type=positive, default=[64, 512])
    parser.add_argument("--steps", type=positive, help=f"timed in a turn at batch {STEPS_AT}; larger ones do fewer")
    parser.add_argument("--warmup", type=positive, help="untimed steps at the start of a turn")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--workers", type=int, default=cores(), help="most a loader may have; default: the cores")
    parser.add_argument("--no-peers", action="store_true", help="without timm and torchdistill")
    parser.add_argument("--only", choices=("precision",), help="what six kinds of network are trained in, and no more")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    keep_freed()  # as our own processes do; everyone here has it
    if arguments.only == "precision":
        _precisions(arguments)
        return
    dataset, images = load_images(arguments.data)
    with tempfile.TemporaryDirectory() as home:
        rows = tuple(
            measure(precisions.settled(each), arguments.rounds, peers=not arguments.no_peers)
            for each in settings(arguments, dataset, Path(home))
        )
    report = Report(summarise(rows), machine(arguments.device, arguments.precision), images, rows)
    show(report, peers=not arguments.no_peers)
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=2) + "\n")


def _precisions(arguments: argparse.Namespace) -> None:
    rows = precisions.measure_all(arguments.device, arguments.rounds)
    precisions.show(rows)
    if arguments.json:
        found = {
            "summary": {"networks": len(rows), "right": sum(row.right for row in rows)},
            "machine": asdict(machine(arguments.device, "auto")),
            "rows": [asdict(row) for row in rows],
        }
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def pair(text: str) -> Pair:
    """A pair from `56:20` or `32x4:8x4`."""
    teacher, colon, student = text.partition(":")
    for name in (teacher, student):
        found = re.fullmatch(r"(\d+)(x[1-9]\d*)?", name)
        if not colon or found is None or int(found[1]) < 8 or int(found[1]) % 6 != 2:
            raise argparse.ArgumentTypeError(f"{text!r} is no TEACHER:STUDENT of depths 8, 14, 20, … as in 32x4:8x4")
    return Pair(teacher, student)


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def settings(arguments: argparse.Namespace, dataset: Dataset, home: Path) -> list[Setting]:
    """Every pair at every batch size."""
    if max(arguments.batches) > len(dataset.train):
        sys.exit(f"batches of {max(arguments.batches)} need more than {len(dataset.train)} images")
    steps = arguments.steps or STEPS[arguments.device]
    # On a GPU steps may wait for loading: what loaders have prepared meanwhile has to be used up first.
    warmup = arguments.warmup or (1 if arguments.device == "cpu" else 2 * arguments.workers + 8)
    return [
        Setting(
            pair,
            batch_size,
            dataset,
            arguments.device,
            arguments.precision,
            arguments.workers,
            warmup,
            max(1, steps * STEPS_AT // max(STEPS_AT, batch_size)),
            home / f"{pair.teacher}-{pair.student}-{batch_size}",
        )
        for pair in arguments.pairs
        for batch_size in arguments.batches
    ]


if __name__ == "__main__":
    main()
