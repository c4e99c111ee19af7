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
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from archsearch.data.metrics import accuracy
from archsearch.distill.loss import losses
from archsearch.distill.train import logits, train
from archsearch.errors import ArchsearchError
from archsearch.request import DistillSpec
from archsearch.settings import user_cache
from benchmarks import quality
from benchmarks.cifar import FILES, load_cifar, load_teacher_for
from benchmarks.quality import BASELINE, Run, show, summary, table

CLASSES = 100
TEACHER = "resnet20x2"
# A student that has room for improvement and fits the hours: ResNet-8.
STUDENT = {"depths": [1, 1, 1], "widths": [16, 32, 64]}
# Methods that need no teacher: the baseline end of the same line.
ALONE = ("none", "label_smoothing", "tf_kd")


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
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return quality.run_all(kept, partial(distil, folder, spec=spec, threads=threads), names, seeds, jobs)


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


if __name__ == "__main__":
    main()
