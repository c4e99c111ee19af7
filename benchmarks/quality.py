"""What `distill_quality` and `text_quality` share: trainings by method and seed, kept as they end, and their table."""

from __future__ import annotations

import json
import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

BASELINE = "none"


@dataclass(frozen=True)
class Run:
    """One training: its student in percent at the last epoch, wall seconds, or why it failed."""

    method: str
    seed: int
    test_acc: float | None
    selection_acc: float | None
    seconds: float
    reason: str | None = None
    test_macro_f1: float | None = None


@dataclass(frozen=True)
class Row:
    """One method over all seeds. `selection` is its accuracy on the selection split, of which no training here chooses
    anything."""

    method: str
    mean: float
    sd: float
    gain: float
    over_kd: float
    seconds: float
    failed: int
    macro_f1: float | None = None
    selection: float | None = None


def run_all(kept: Path, distil: Callable[[str, int], Run], names: Sequence[str], seeds: int, jobs: int) -> list[Run]:
    """Every method with every seed, `jobs` at a time, each in a process of its own kind.

    Args:
        kept: File of the trainings that are over, one JSON line each; they are not repeated.
        distil: Of method and seed; it crosses processes.
    """
    done = {(run.method, run.seed): run for run in kept_runs(kept)}
    wanted = [(name, seed) for seed in range(seeds) for name in names]
    missing = [key for key in wanted if key not in done]
    context = multiprocessing.get_context("spawn")
    with Progress(console=Console(stderr=True)) as progress, ProcessPoolExecutor(jobs, context) as pool:
        bar = progress.add_task("trainings", total=len(wanted), completed=len(wanted) - len(missing))
        running = [pool.submit(distil, name, seed) for name, seed in missing]
        for future in as_completed(running):
            run = future.result()
            done[run.method, run.seed] = run
            with kept.open("a") as file:
                file.write(json.dumps(asdict(run)) + "\n")
            said = f"{run.method} {run.seed}: {run.test_acc if run.reason is None else run.reason}"
            progress.console.print(said)
            progress.advance(bar)
    return [done[key] for key in wanted]


def kept_runs(path: Path) -> Iterator[Run]:
    """The trainings a file keeps."""
    if path.is_file():
        for line in path.read_text().splitlines():
            yield Run(**json.loads(line))


def table(runs: Sequence[Run]) -> list[Row]:
    """Methods by mean accuracy. Gains are differences of means over the same seeds, in points."""
    by_method: dict[str, list[Run]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    accs = {method: [run.test_acc for run in found if run.test_acc is not None] for method, found in by_method.items()}
    means = {method: statistics.fmean(found) if found else float("nan") for method, found in accs.items()}
    rows = [
        Row(
            method,
            means[method],
            statistics.stdev(accs[method]) if len(accs[method]) > 1 else 0.0,
            means[method] - means.get(BASELINE, float("nan")),
            means[method] - means.get("kd", float("nan")),
            statistics.median(run.seconds for run in found),
            len(found) - len(accs[method]),
            _mean([run.test_macro_f1 for run in found if run.test_macro_f1 is not None]),
            _mean([run.selection_acc for run in found if run.selection_acc is not None]),
        )
        for method, found in by_method.items()
    ]
    return sorted(rows, key=lambda row: -row.mean if row.mean == row.mean else float("inf"))


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures in three: kd's gain over no teacher, and the best method with its gain."""
    gains = {row.method: row.gain for row in rows}
    best = next((row for row in rows if row.method != BASELINE), None)
    return {
        "kd_gain": gains.get("kd"),
        "best_method": best.method if best else None,
        "best_gain": best.gain if best else None,
    }


def show(rows: Sequence[Row], title: str) -> None:
    """The table for people; macro-F1 where it was measured."""
    with_f1 = any(row.macro_f1 is not None for row in rows)
    shown = Table(title=title)
    f1s = ("macro-F1",) * with_f1
    columns = ("method", "test accuracy", *f1s, "over no teacher", "over kd", "selection", "seconds", "failed")
    for column in columns:
        shown.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        f1 = (f"{row.macro_f1:.2f}" if row.macro_f1 is not None else "",) * with_f1
        gains = (f"{row.gain:+.2f}", f"{row.over_kd:+.2f}")
        accuracy = f"{row.mean:.2f} ± {row.sd:.2f}"
        selection = "" if row.selection is None else f"{row.selection:.2f}"
        shown.add_row(row.method, accuracy, *f1, *gains, selection, f"{row.seconds:.0f}", str(row.failed or ""))
    Console().print(shown)
