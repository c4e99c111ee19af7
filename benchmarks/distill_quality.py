"""What every distillation method is worth: one teacher, one student, equal budgets, several seeds, last epoch.

    python -m benchmarks.distill_quality --data ../shared/data [--methods kd,dist,…] [--epochs 15] [--json FILE]

All methods see the same images in the same order and views, seed by seed, with their published weights. Trainings that
are over are kept in the cache folder, so an interrupted run goes on where it stopped.
"""

# N images, K classes

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from archsearch.data.metrics import accuracy
from archsearch.distill.loss import losses
from archsearch.distill.train import logits, train
from archsearch.errors import ArchsearchError
from archsearch.request import DistillSpec
from archsearch.settings import user_cache
from benchmarks.cifar import FILES, load_cifar, load_teacher_for

CLASSES = 100
TEACHER = "resnet20x2"
# A student that has room for improvement and fits the hours: ResNet-8.
STUDENT = {"depths": [1, 1, 1], "widths": [16, 32, 64]}
BASELINE = "none"
# Methods that need no teacher: the baseline end of the same line.
ALONE = ("none", "label_smoothing", "tf_kd")


@dataclass(frozen=True)
class Run:
    """One training: accuracies in percent at its last epoch, wall seconds, or why it failed."""

    method: str
    seed: int
    test_acc: float | None
    selection_acc: float | None
    seconds: float
    reason: str | None = None


@dataclass(frozen=True)
class Row:
    """One method over all seeds."""

    method: str
    mean: float
    sd: float
    gain: float
    over_kd: float
    seconds: float
    failed: int


def methods() -> list[str]:
    """Every registered method for one label an image, the baseline first."""
    able = [loss.name for loss in losses if "classification" in loss.tasks and "attention" not in loss.reads]
    return [BASELINE, "kd", *(name for name in able if name not in (BASELINE, "kd"))]


def distil(folder: Path, method: str, seed: int, spec: dict[str, Any], threads: int) -> Run:
    """One student from scratch; the test split is read once, after the last epoch."""
    import timm
    import torch

    import archsearch.models  # noqa: F401  (registers with timm)

    torch.set_num_threads(threads)
    dataset, teacher = load_cifar(folder, CLASSES), load_teacher_for(folder, CLASSES, TEACHER)
    torch.manual_seed(seed)
    student = timm.create_model("cifar_resnet", num_classes=CLASSES, **STUDENT)
    recipe = DistillSpec.model_validate({**spec, "method": method, "seed": seed})
    asked, started = None if method in ALONE else teacher, time.monotonic()
    try:
        for _ in train(student, dataset, recipe, teacher=asked, cache=user_cache() / "quality"):
            pass
    except ArchsearchError as error:
        return Run(method, seed, None, None, time.monotonic() - started, str(error))
    seconds, answers = time.monotonic() - started, partial(logits, student, dataset.task)
    return Run(method, seed, accuracy(answers, dataset.test), accuracy(answers, dataset.selection), seconds)


def run_all(folder: Path, names: Sequence[str], seeds: int, spec: dict[str, Any], jobs: int) -> list[Run]:
    """Every method with every seed, `jobs` at a time."""
    teacher = load_teacher_for(folder, CLASSES, TEACHER)  # trained before the others wait for it
    identity = json.dumps([spec, STUDENT, teacher.sha256, FILES[CLASSES]], sort_keys=True)
    kept = user_cache() / f"quality-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.jsonl"
    done = {(run.method, run.seed): run for run in _kept(kept)}
    wanted = [(name, seed) for seed in range(seeds) for name in names]
    missing = [key for key in wanted if key not in done]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    with Progress(console=Console(stderr=True)) as progress, ProcessPoolExecutor(jobs, context) as pool:
        bar = progress.add_task("trainings", total=len(wanted), completed=len(wanted) - len(missing))
        running = [pool.submit(distil, folder, name, seed, spec, threads) for name, seed in missing]
        for future in as_completed(running):
            run = future.result()
            done[run.method, run.seed] = run
            with kept.open("a") as file:
                file.write(json.dumps(asdict(run)) + "\n")
            said = f"{run.method} {run.seed}: {run.test_acc if run.reason is None else run.reason}"
            progress.console.print(said)
            progress.advance(bar)
    return [done[key] for key in wanted]


def _kept(path: Path) -> Iterator[Run]:
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
            statistics.median(run.seconds for run in by_method[method]),
            len(by_method[method]) - len(accs[method]),
        )
        for method in by_method
    ]
    return sorted(rows, key=lambda row: -row.mean if row.mean == row.mean else float("inf"))


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures in three: kd's gain over no teacher, and the best method with its gain."""
    gains = {row.method: row.gain for row in rows}
    best = next((row for row in rows if row.method != BASELINE), None)
    return {
        "kd_gain": gains.get("kd"),
        "best_method": best.method if best else None,
        "best_gain": best.gain if best else None,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="Folder of the evaluation data.")
    parser.add_argument("--methods", help="Comma-separated; every registered one by default.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--jobs", type=int, help="Trainings at a time; one a core on the CPU, one on a GPU.")
    parser.add_argument("--json", type=Path, help="Write the figures there too.")
    given = parser.parse_args(arguments)
    if not (given.data / FILES[CLASSES]).is_file():
        print(f"no {FILES[CLASSES]} in {given.data}: nothing to measure", file=sys.stderr)
        return
    spec = {"epochs": given.epochs, "batch_size": given.batch_size, "augment": "crop_flip", "device": given.device}
    jobs = given.jobs or (1 if given.device == "cuda" else os.cpu_count() or 1)
    names = given.methods.split(",") if given.methods else methods()
    runs = run_all(given.data, names, given.seeds, spec, jobs)
    rows, teacher = table(runs), load_teacher_for(given.data, CLASSES, TEACHER)
    dataset = load_cifar(given.data, CLASSES)
    teacher_acc = accuracy(teacher.logits, dataset.test)
    found = {
        "summary": summary(rows),
        "teacher": {"name": TEACHER, "test_acc": teacher_acc},
        "student": STUDENT,
        "images": len(dataset.train),
        "spec": spec,
        "seeds": given.seeds,
        "rows": [asdict(row) for row in rows],
        "runs": [asdict(run) for run in runs],
    }
    show(rows, f"ResNet-8 from {TEACHER} ({teacher_acc:.1f} %), {given.epochs} epochs, {given.seeds} seeds")
    print(json.dumps(found["summary"]))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


def show(rows: Sequence[Row], title: str) -> None:
    """The table for people."""
    shown = Table(title=title)
    for column in ("method", "test accuracy", "over no teacher", "over kd", "seconds", "failed"):
        shown.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        gains = (f"{row.gain:+.2f}", f"{row.over_kd:+.2f}")
        shown.add_row(row.method, f"{row.mean:.2f} ± {row.sd:.2f}", *gains, f"{row.seconds:.0f}", str(row.failed or ""))
    Console().print(shown)


if __name__ == "__main__":
    main()
