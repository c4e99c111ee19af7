"""How many candidates a search has to score, and how long a proposal takes.

    python -m benchmarks.search [--data ../shared/data] [--seeds 20] [--samplers tpe,evolution] [--json FILE]

`regret`: every sampler searches NAS-Bench-201 with the real search code; only the look at a network is replaced by the
score it got once (`benchmarks.cells`). Against the number scored, means over seeds:

    accuracy regret   points of CIFAR-100 test accuracy the pick is below the best cell of the table within the limit
    score regret      nats its score is below the best score within the limit, which is what a search looks for
    ratio             candidates until a sampler is as good as evolution with all of its own, as a share of what
                      evolution took to get there itself

once without a limit and once where only the fastest 15 % of the cells on one device are within it, by the table of
their latencies. Cells that compute the same count as different ones here, as they do for a search.

`proposals`: milliseconds from asking the default sampler to a candidate within the budget, where one random member in
10, 100 and 1,000 is: on the wall, and on the processor alone, which says what an idle machine would need.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from archsearch.domains.images.task import ImageTask
from archsearch.hardware import Limits, Ruler, fits
from archsearch.request import Architecture, Sampler, SearchSpec
from archsearch.search import Bench, Trial, search
from archsearch.search.propose import Proposals
from archsearch.search.repair import Members
from archsearch.spaces import Count, Space, nasbench201, spaces
from benchmarks.cells import load_scores, require_current
from benchmarks.tables import TABLES

Floats = npt.NDArray[np.float64]
TASK = ImageTask(100, 3, 32, 32, (0.5,) * 3, (0.25,) * 3)
DEVICE = "1080ti_1"
WITHIN = 0.15
SETTINGS = ("unlimited", "latency")
SHOWN = (16, 32, 64, 100, 150, 200, 300)
REFERENCE = "evolution"
# In turn the budgets of `proposals`.
BUDGETS = (("params",), ("macs",), ("size_bytes",), ("params", "macs"))
ONE_IN = (10, 100, 1000)


@dataclass(frozen=True)
class Cells:
    """The table: scores, accuracies in percent and latencies of cells, by their strings."""

    score: Mapping[str, float]
    accuracy: Mapping[str, float]
    latency_ms: Mapping[str, float]

    def limit_ms(self) -> float:
        return float(np.quantile(list(self.latency_ms.values()), WITHIN))


@dataclass(frozen=True)
class Table:
    """Predicts by looking up: the count of a cell carries its row (see `cells_space`)."""

    latency_ms: Floats

    def predict(self, count: Count) -> float:
        return float(self.latency_ms[count.moved])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--candidates", type=int, default=300)
    # Gaussian processes take half a second a proposal and more: hours for twenty seeds.
    quick = ",".join(name for name in get_args(Sampler) if name != "gp")
    parser.add_argument("--samplers", default=quick, help="default: %(default)s; there is gp too")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="default: %(default)s")
    parser.add_argument(
        "--objective",
        choices=("score", "validation"),
        default="score",
        help="validation stands in for the score where those are not made yet: the table's own validation accuracy",
    )
    parser.add_argument("--only", choices=("regret", "proposals"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes started below
    report: dict[str, Any] = {"objective": arguments.objective, "candidates": arguments.candidates}

    def keep() -> None:
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=2) + "\n")

    if arguments.only != "regret":
        report["proposals"] = proposals()
        keep()
    if arguments.only != "proposals":
        if arguments.objective == "score":
            load_scores(arguments.data, processes=arguments.processes)
            require_current(arguments.data)
        for setting in arguments.settings.split(","):
            report[setting] = regrets(setting, arguments)
            show(setting, report[setting])
            keep()
        report["summary"] = summary(report)
        keep()
        print(json.dumps(report["summary"]))


def regrets(setting: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """For each sampler the mean curves and, against evolution, the ratios."""
    jobs = [
        (arguments.data, arguments.objective, setting, sampler, seed, arguments.candidates)
        for sampler in arguments.samplers.split(",")
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    ]
    with ProcessPoolExecutor(arguments.processes) as pool:
        done = pool.map(_run, jobs)
        curves = list(track(done, setting, len(jobs), console=Console(stderr=True), disable=not sys.stderr.isatty()))
    found: dict[str, Any] = {}
    for job, curve in zip(jobs, curves, strict=True):
        found.setdefault(job[3], []).append(curve)
    rows: dict[str, Any] = {}
    for sampler, of_seeds in found.items():
        accuracy_N, score_N, seconds = (np.mean([curve[i] for curve in of_seeds], axis=0) for i in range(3))
        rows[sampler] = {
            "accuracy_regret": accuracy_N.tolist(),
            "score_regret": score_N.tolist(),
            "seeds": len(of_seeds),
            "ms_per_proposal": 1000 * float(seconds) / arguments.candidates,
        }
    for row in rows.values():
        for kind in ("accuracy", "score"):
            if REFERENCE in rows:
                row[f"{kind}_ratio"] = ratio(row[f"{kind}_regret"], rows[REFERENCE][f"{kind}_regret"])
    return rows


def ratio(curve: Sequence[float], reference: Sequence[float]) -> float | None:
    """Candidates until `curve` is as low as `reference` ends, over what `reference` itself took; None if never."""
    target = reference[-1] + 1e-9
    took = next(n for n, value in enumerate(reference, 1) if value <= target)
    reached = next((n for n, value in enumerate(curve, 1) if value <= target), None)
    return None if reached is None else reached / took


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """The default's ratios, without a limit and, where they were run, with one."""
    found = {}
    for setting in SETTINGS:
        ours = report.get(setting, {}).get("tpe")
        if ours and "accuracy_ratio" in ours:
            suffix = "" if setting == SETTINGS[0] else f"_{setting}"
            found[f"scored_ratio_vs_evolution{suffix}"] = ours["accuracy_ratio"]
            found[f"scored_ratio_vs_evolution_score{suffix}"] = ours["score_ratio"]
    return found


def _run(job: tuple[Path, str, str, str, int, int]) -> tuple[Floats, Floats, float]:
    """One search: accuracy regret and score regret after each candidate, and its seconds."""
    data, objective, setting, sampler, seed, candidates = job
    cells = load_cells(data, objective)
    space, predictor = cells_space(cells)
    most_ms = cells.limit_ms() if setting == "latency" else math.inf
    limits = Limits(latency_ms=most_ms) if setting == "latency" else Limits()
    ruler = Ruler(TASK, limits, predictors={space.name: predictor})
    spec = SearchSpec.model_validate({"sampler": sampler, "seed": seed, "candidates": candidates})

    def look(
        spec: SearchSpec,
        space: Space,
        bench: Bench,
        architecture: Architecture,
        ruler: Ruler,
        number: int = 0,
        seen: Sequence[Sequence[float]] = (),
    ) -> Trial:
        cost, score = ruler.measure(space, architecture), cells.score[nasbench201.cell_string(architecture)]
        assert fits(cost, ruler.limits)
        if not math.isfinite(score):
            return Trial(number, space.name, architecture, cost, "failed", None, {}, {}, "no score", 0.0)
        return Trial(number, space.name, architecture, cost, "scored", score, {}, {}, None, 0.0, (score,))

    started = time.perf_counter()
    trials = list(search(spec, Bench(TASK, ()), ruler, [space], look=look))
    seconds = time.perf_counter() - started
    possible = [cell for cell, ms in cells.latency_ms.items() if ms <= most_ms]
    best_accuracy = max(cells.accuracy[cell] for cell in possible)
    best_score = max(cells.score[cell] for cell in possible)
    worst = min(score for score in cells.score.values() if math.isfinite(score))
    accuracies, scores = [], []
    pick: Trial | None = None
    for trial in trials:
        # As `winner` chooses.
        if trial.score is not None and (pick is None or _rank(trial) > _rank(pick)):
            pick = trial
        accuracy = 1.0 if pick is None else cells.accuracy[nasbench201.cell_string(pick.architecture)]
        accuracies.append(best_accuracy - accuracy)
        scores.append(best_score - (worst if pick is None else _rank(pick)[0]))
    return np.array(accuracies), np.array(scores), seconds


def _rank(trial: Trial) -> tuple[float, int, int]:
    assert trial.score is not None
    return trial.score, -trial.cost.params, -trial.number


@cache
def load_cells(data: Path, objective: str) -> Cells:
    architectures, accuracy_N = TABLES["nb201_c100"].read(data, full=True)
    strings = [nasbench201.cell_string(architecture) for architecture in architectures]
    stored = np.load(data / "nb201_latency_ms.npz")
    latency_N = stored["latency_ms"][:, list(stored["devices"]).index(DEVICE)]
    if objective == "score":
        scores = load_scores(data, processes=1)
    else:
        validation = replace(TABLES["nb201_c100"], rows=_validation)
        scores = dict(zip(strings, validation.read(data, full=True)[1].tolist(), strict=True))
    return Cells(
        score=scores,
        accuracy=dict(zip(strings, accuracy_N.tolist(), strict=True)),
        latency_ms=dict(zip(strings, latency_N.astype(float).tolist(), strict=True)),
    )


def _validation(path: Path, full: bool) -> Any:
    import csv
    import gzip

    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            yield nasbench201.parse(row["arch"]), float(row["c100_val"])


def cells_space(cells: Cells) -> tuple[Space, Table]:
    """NAS-Bench-201's space, whose counts carry the cell's row of the table in a field nothing else reads here."""
    rows = {cell: i for i, cell in enumerate(cells.latency_ms)}
    space = spaces.get("nasbench201")

    def count(architecture: Architecture, task: ImageTask) -> Count:
        return replace(space.count(architecture, task), moved=rows[nasbench201.cell_string(architecture)])

    return replace(space, count=count), Table(np.array(list(cells.latency_ms.values())))


def proposals(told: int = 64, timed: int = 40) -> list[dict[str, Any]]:
    """Milliseconds of proposals after `told` trials, under budgets that one random member in so many holds."""
    rows = []
    columns = ("median ms", "p90 ms", "cpu ms", "distinct", "used")
    print(f"\n{'space':<14}{'budget':<14}{'one in':>8}{''.join(f'{title:>11}' for title in columns)}")
    for name in ("resnet_cifar", "vit"):
        space = spaces.get(name)
        parameters, ruler = space.parameters(TASK), Ruler(TASK)
        rng = random.Random(0)
        drawn = [{p.name: rng.choice(p.values) for p in parameters} for _ in range(6000)]
        costs = [ruler.estimate(space, architecture) for architecture in drawn]
        for budget in BUDGETS:
            for one_in in ONE_IN:
                limits = _limits_for(costs, budget, one_in)
                found = _time(space, limits, told, timed)
                rows.append({"space": name, "budget": "+".join(budget), "one_in": one_in, **found})
                row = rows[-1]
                figures = "".join(f"{row[title.replace(' ', '_')]:>11.4g}" for title in columns)
                print(f"{name:<14}{row['budget']:<14}{one_in:>8}{figures}", flush=True)
    return rows


def _limits_for(costs: Sequence[Any], budget: Sequence[str], one_in: int) -> Limits:
    """Limits that one in so many costs hold, all of them at the same quantile of their own."""
    values_CN = np.array([[getattr(cost, name) for name in budget] for cost in costs], dtype=float)
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        held = (values_CN <= np.quantile(values_CN, middle, axis=0)).all(1).mean()
        low, high = (low, middle) if held > 1 / one_in else (middle, high)
    limit = np.quantile(values_CN, high, axis=0)
    return Limits(**{name: int(value) for name, value in zip(budget, limit, strict=True)})


def _time(space: Space, limits: Limits, told: int, timed: int) -> dict[str, Any]:
    spec, members = SearchSpec(), Members(space, Ruler(TASK, limits))
    made = Proposals(spec, {space.name: members})
    times, cpu, kept = [], [], []
    for number in range(told + timed):
        started, worked = time.perf_counter(), time.process_time()
        candidate = made.next()
        times.append(1000 * (time.perf_counter() - started))
        cpu.append(1000 * (time.process_time() - worked))
        if candidate is None:
            break
        cost = members.estimate(candidate[1])
        # Any score does: what is measured is the way to the next proposal.
        value = math.log(cost.params) + math.log(cost.macs) / 2
        made.tell(Trial(number, *candidate, cost, "scored", value, {}, {}, None, 0.0, (value,)))
        kept.append(cost)
    given = limits.given()
    used = [max(getattr(cost, name) / limit for name, limit in given.items()) for cost in kept]
    late = slice(min(told, len(times) // 2), None)
    return {
        "limits": dict(given),
        "median_ms": float(np.median(times[late])),
        "p90_ms": float(np.quantile(times[late], 0.9)),
        "cpu_ms": float(np.median(cpu[late])),
        "distinct": len(kept),
        "used": float(np.median(used)),
    }


def show(setting: str, rows: Mapping[str, Any]) -> None:
    columns = "".join(f"{n:>8}" for n in SHOWN)
    for kind, unit in (("accuracy", "points"), ("score", "nats")):
        print(f"\n{setting}: {kind} regret ({unit}) after so many candidates\n{'sampler':<12}{columns}{'ratio':>8}")
        for sampler, row in rows.items():
            curve = row[f"{kind}_regret"]
            values = "".join(f"{curve[n - 1]:>8.3f}" if n <= len(curve) else f"{'':>8}" for n in SHOWN)
            share = row.get(f"{kind}_ratio")
            print(f"{sampler:<12}{values}{'never' if share is None else f'{share:.2f}':>8}")


if __name__ == "__main__":
    main()
