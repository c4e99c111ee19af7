"""Do twenty timed networks tell how fast the others of their space are?

    python -m benchmarks.latency --data ../shared/data [--devices cpu-torch,…] [--spaces …] [--seeds 10] [--json FILE]

Two questions, answered by the code a search uses (`pick_members`, `measure_latency`, `fit`):

1. On 27 devices others measured (nb201_latency_ms.npz): twenty cells of NAS-Bench-201 are picked by seed, the predictor
   is fitted to them, and its latencies of 2,000 other cells are compared with the published ones. Cells whose output
   does not depend on the input (341 of 15,625) are left out of both: some devices' figures for them are near 0.
2. On this machine: twenty members of each space are timed, and twenty others are timed and predicted.

    rho           Spearman's ρ of predicted and measured latency on cells or members the fit has not seen
    MACs, params  ρ of these counts on the same
    MAPE          mean of |predicted / measured − 1| on the same
    noise         mean of |second / first − 1| of some networks timed twice: what no predictor can beat
    said          the error the predictor says it has, from its own twenty alone (leave-one-out)

Of each device and space only the twenty decide: prices, and which way to read them. What ways there are to choose from
(`archsearch.hardware.predict`), and how the twenty are spread, was decided with these same devices in view.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from scipy.stats import spearmanr

from archsearch.data.shape import Shape
from archsearch.domains.images.task import ImageTask
from archsearch.hardware.devices import devices
from archsearch.hardware.latency import describe_machine, measure_latency
from archsearch.hardware.predict import Predictor, fit, pick_members
from archsearch.request import Architecture
from archsearch.spaces import Count, Space, spaces
from archsearch.spaces.nasbench201 import OPERATIONS, parse

Floats = npt.NDArray[np.float64]

TASK = ImageTask(10, 3, 32, 32, (0.5,) * 3, (0.25,) * 3)
CALIBRATED_ON = 20
# Cells compared for each seed; all 15,284 take eight times as long and change the third digit.
CELLS = 2000
HELD_OUT = 20
# Of these, so many are timed a second time.
AGAIN = 10
# Seed of the members compared here, apart from that of those timed first.
HELD_OUT_SEED = 1000
# Edges of a cell: from node to node, in the order of its six operations.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


@dataclass(frozen=True)
class Published:
    """Connected cells with their counts, and their latency on each device: cells × devices."""

    cells: list[Architecture]
    counts: list[Count]
    names: list[str]
    latencies_ms: Floats


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--devices", default="cpu-torch", help="this machine's, comma-separated; default: %(default)s")
    parser.add_argument("--spaces", help="comma-separated; default: nasbench201 and all that are there to deploy")
    parser.add_argument("--seeds", type=int, default=10, help="picks of twenty cells; default: %(default)s")
    parser.add_argument("--only", choices=("settings", "here"), help="one of the two questions")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    report: dict[str, Any] = {"machine": describe_machine(), "settings": [], "here": [], "summary": {}}
    if arguments.only != "here":
        published = read(arguments.data)
        if published is None:
            print(f"the 27 published settings are skipped: no nb201_latency_ms.npz in {arguments.data}")
        else:
            report["settings"] = settings(published, arguments.seeds)
            show_settings(report["settings"], arguments.seeds)
    if arguments.only != "settings":
        report["here"] = here(arguments.devices.split(","), named_spaces(arguments.spaces))
        show_here(report["here"])
    report["summary"] = summarise(report["settings"], report["here"])
    print("\n" + "  ".join(f"{name} {value:.4f}" for name, value in report["summary"].items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def read(folder: Path) -> Published | None:
    """The published latencies, or None where the files are not."""
    tables = [folder / "nb201_latency_ms.npz", folder / "nb201_accuracy.csv.gz"]
    if not all(table.is_file() for table in tables):
        return None
    with gzip.open(tables[1], "rt") as file:
        strings = {int(row["index"]): row["arch"] for row in csv.DictReader(file)}
    with np.load(tables[0]) as archive:
        latencies_ms, names = archive["latency_ms"].astype(float), [str(name) for name in archive["devices"]]
    cells = [parse(strings[i]) for i in range(len(latencies_ms))]
    rows = [i for i, cell in enumerate(cells) if connected(cell)]
    space = spaces.get("nasbench201")
    cells = [cells[i] for i in rows]
    return Published(cells, [space.count(cell, TASK) for cell in cells], names, latencies_ms[rows])


def connected(cell: Architecture) -> bool:
    """Whether the cell's output depends on its input."""
    reached = {0}
    for (start, end), operation in zip(EDGES, cell.values(), strict=True):
        if start in reached and OPERATIONS[operation] != "none":
            reached.add(end)
    return 3 in reached


def settings(published: Published, seeds: int) -> list[dict[str, Any]]:
    """A row for each device: means over seeds."""
    where = {tuple(cell.values()): i for i, cell in enumerate(published.cells)}
    space = spaces.get("nasbench201")
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in published.names}
    for seed in track(range(seeds), "cells", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        picked = pick_members(space, TASK, connected, CALIBRATED_ON, seed)
        known = [where[tuple(cell.values())] for cell in picked]
        others = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(published.cells)), known))[:CELLS]
        counts = [published.counts[i] for i in others]
        for device, name in enumerate(published.names):
            latency_N = published.latencies_ms[:, device]
            predictor = fit([published.counts[i] for i in known], latency_N[known].tolist())
            rows[name].append(judge(predictor, counts, latency_N[others]))
    return [
        {"device": name, **{key: mean(row[key] for row in found) for key in found[0]}} for name, found in rows.items()
    ]


def here(names: Sequence[str], chosen: Sequence[Space]) -> list[dict[str, Any]]:
    """A row for each device of this machine and space."""
    rows = []
    for name in names:
        reason = devices.get(name).available()
        if reason is not None:
            print(f"{name} is skipped: {reason}")
            continue
        for space in chosen:
            sound = connected if space.name == "nasbench201" else None
            known = pick_members(space, TASK, sound, CALIBRATED_ON, 0)
            others = [member for member in held_out(space, known) if sound is None or sound(member)]
            # A shared machine is slower at some times than at others: in one shuffled order that falls on both alike.
            order = [*known, *others]
            random.Random(0).shuffle(order)
            latency_ms = {_key(member): timed(space, member, name) for member in order}
            predictor = fit([space.count(m, TASK) for m in known], [latency_ms[_key(m)] for m in known])
            measured_N = np.array([latency_ms[_key(member)] for member in others])
            again_N = np.array([timed(space, member, name) for member in others[:AGAIN]])
            row = {
                "device": name,
                "space": space.name,
                "n": len(others),
                "reading": predictor.reading,
                **judge(predictor, [space.count(member, TASK) for member in others], measured_N),
                "noise": float(np.abs(again_N / measured_N[:AGAIN] - 1).mean()),
                "fastest_ms": float(measured_N.min()),
                "slowest_ms": float(measured_N.max()),
            }
            rows.append(row)
            print(f"{name} {space.name}: rho {row['rho']:.3f}, MAPE {100 * row['mape']:.1f} %", file=sys.stderr)
    return rows


def _key(member: Architecture) -> tuple[int, ...]:
    return tuple(member.values())


def timed(space: Space, member: Architecture, device: str) -> float:
    return measure_latency(space.build(member, TASK), Shape((TASK.in_chans, TASK.height, TASK.width)), device).median_ms


def held_out(space: Space, known: Sequence[Architecture]) -> list[Architecture]:
    """Random members that were not timed before; fewer in a small space."""
    rng, parameters = random.Random(HELD_OUT_SEED), space.parameters(TASK)
    found: dict[tuple[int, ...], Architecture] = {}
    for _ in range(100 * HELD_OUT):
        member = {p.name: rng.choice(p.values) for p in parameters}
        if member not in known and len(found) < HELD_OUT:
            found[tuple(member.values())] = member
    return list(found.values())


def named_spaces(names: str | None) -> list[Space]:
    if names is not None:
        return [spaces.get(name) for name in names.split(",")]
    deployed = [space for space in spaces if not space.benchmark and space.refusal(TASK) is None]
    return [spaces.get("nasbench201"), *deployed]


def judge(predictor: Predictor, counts: Sequence[Count], latency_N: Floats) -> dict[str, float]:
    predicted_N = np.array([predictor.predict(count) for count in counts])
    return {
        "rho": rho(predicted_N, latency_N),
        "macs_rho": rho([count.macs for count in counts], latency_N),
        "params_rho": rho([count.params for count in counts], latency_N),
        "mape": float(np.abs(predicted_N / latency_N - 1).mean()),
        "said": predictor.error,
    }


def rho(values: Any, latency_N: Floats) -> float:
    return float(spearmanr(values, latency_N).statistic)


def mean(values: Any) -> float:
    return float(np.mean(list(values)))


def summarise(published: Sequence[dict[str, Any]], measured: Sequence[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    if published:
        found |= {
            "spearman_mean": mean(row["rho"] for row in published),
            "spearman_worst": min(row["rho"] for row in published),
            "macs_spearman_mean": mean(row["macs_rho"] for row in published),
            "params_spearman_mean": mean(row["params_rho"] for row in published),
            "mape_settings": mean(row["mape"] for row in published),
        }
    if measured:
        found |= {
            "mape_here": mean(row["mape"] for row in measured),
            "mape_here_worst": max(row["mape"] for row in measured),
            "noise_here": mean(row["noise"] for row in measured),
            "spearman_here": mean(row["rho"] for row in measured),
            "macs_spearman_here": mean(row["macs_rho"] for row in measured),
        }
    return found


def show_settings(rows: Sequence[dict[str, Any]], seeds: int) -> None:
    print(f"\nNAS-Bench-201, fitted on {CALIBRATED_ON} cells, means over {seeds} picks")
    _table(rows, ("device",), ("rho", "macs_rho", "params_rho", "mape", "said"))


def show_here(rows: Sequence[dict[str, Any]]) -> None:
    print(f"\nthis machine, fitted on {CALIBRATED_ON} members, {HELD_OUT} others, batch 1, one thread")
    _table(
        rows,
        ("device", "space"),
        ("rho", "macs_rho", "params_rho", "mape", "said", "noise", "fastest_ms", "slowest_ms"),
    )


def _table(rows: Sequence[dict[str, Any]], names: Sequence[str], figures: Sequence[str]) -> None:
    titles = {"macs_rho": "MACs", "params_rho": "params", "mape": "MAPE %", "said": "said %", "noise": "noise %"}
    print("".join(f"{name:<22}" for name in names) + "".join(f"{titles.get(f, f):>11}" for f in figures))
    means = {**dict.fromkeys(names, ""), names[0]: "mean", **{f: mean(row[f] for row in rows) for f in figures}}
    for row in (*rows, means):
        text = (f"{100 * row[f]:>11.1f}" if f in ("mape", "said", "noise") else f"{row[f]:>11.3f}" for f in figures)
        print("".join(f"{row[name]:<22}" for name in names) + "".join(text))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
