"""Does the score rank students as real distillation did?

    python -m benchmarks.ranking --data ../shared/data [--seeds 3] [--json FILE]

Scores every architecture of a table of published distilled accuracies and compares the order: Kendall's τ and
Spearman's ρ with the accuracy, ρ given parameter count (what a score adds to size), the spread of τ over seeds, and
milliseconds an architecture. Only table `s1_c100` so far: 64 ResNets distilled on CIFAR-100 (DisWOT's S1).

No constant of the default score was fitted on this table.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau, rankdata, spearmanr

from archsearch.data import Dataset, load_npz
from archsearch.distill.train import train
from archsearch.request import DistillSpec, SearchSpec
from archsearch.search import evaluate, prepare
from archsearch.spaces import Cost, spaces
from archsearch.teachers import Teacher, fingerprint

SPACE = spaces.get("resnet_cifar")
NAMES = ("depth1", "depth2", "depth3", "width1", "width2", "width3")
UNLIMITED = Cost(2**62, 2**62)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher-epochs", type=int, default=8, help="of the ResNet-20 teacher trained here")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    table = arguments.data / "diswot_s1_kd_gt.csv"
    if not table.is_file():
        sys.exit(f"skipped: {table} is not there")
    dataset = cifar100(arguments.data)
    teacher = make_teacher(dataset, arguments.teacher_epochs)
    rows = rank(table, dataset, teacher, arguments.seeds)
    print(f"\ns1_c100: 64 students, {arguments.seeds} seeds, teacher: ResNet-20, {arguments.teacher_epochs} epochs")
    print(f"{'score':<12} {'tau':>6} {'sd':>6} {'rho':>6} {'rho|params':>10} {'ms':>6}")
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["tau"]):
        numbers = (
            f"{row['tau']:6.3f} {row['tau_sd']:6.3f} {row['rho']:6.3f} {row['partial_rho']:10.2f} {row['ms']:6.0f}"
        )
        print(f"{name:<12} {numbers}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"tables": {"s1_c100": {"n": 64, "rows": rows}}}, indent=2) + "\n")


def cifar100(folder: Path) -> Dataset:
    """The 10,000 training images; stored as differences, so they are decoded into a plain npz first."""
    import tempfile

    stored = np.load(folder / "cifar100_12k.npz")
    arrays = {}
    for split in ("train", "test"):
        x = np.cumsum(stored[f"x_{split}_delta"], axis=2, dtype=np.uint8)
        x[..., [0, 2]] += x[..., 1:2]
        arrays |= {f"x_{split}": x, f"y_{split}": stored[f"y_{split}"]}
    with tempfile.TemporaryDirectory() as temporary:
        np.savez(Path(temporary) / "cifar100.npz", **arrays)
        return load_npz(Path(temporary) / "cifar100.npz")


def make_teacher(dataset: Dataset, epochs: int) -> Teacher:
    """A ResNet-20, trained on the labels."""
    torch.manual_seed(0)
    model = SPACE.build(dict(zip(NAMES, (3, 3, 3, 16, 32, 64), strict=True)), dataset.task)
    for progress in train(model, dataset, DistillSpec(method="none", epochs=epochs, augment="crop_flip"), teacher=None):
        if progress.selection_acc is not None:
            print(f"teacher: epoch {progress.epoch}/{epochs}, {progress.selection_acc:.1f} %", file=sys.stderr)
    model.eval().requires_grad_(False)
    task = dataset.task
    return Teacher("resnet20", model, task.classes, 3, task.mean, task.std, None, fingerprint(model))


def rank(table: Path, dataset: Dataset, teacher: Teacher, seeds: int) -> dict[str, dict[str, float]]:
    """Correlations of every proxy and of the default score with distilled accuracy."""
    with table.open() as file:
        students = list(csv.DictReader(file))
    accuracy = np.array([float(row["kd_acc"]) for row in students])
    params = np.array([float(row["params"]) for row in students])
    runs: dict[str, list[np.ndarray]] = {}
    started = time.perf_counter()
    for seed in range(seeds):
        spec = SearchSpec(seed=seed)
        bench = prepare(spec, teacher, dataset)
        trials = []
        for row in students:
            widths = (16, 32, 64)
            architecture = dict(zip(NAMES, (*(int(row[f"d{i}"]) for i in (1, 2, 3)), *widths), strict=True))
            trials.append(evaluate(spec, SPACE, bench, architecture, UNLIMITED))
        for name in trials[0].proxies:
            runs.setdefault(name, []).append(np.array([trial.proxies[name] for trial in trials], dtype=float))
        runs.setdefault("archsearch", []).append(np.array([trial.score for trial in trials], dtype=float))
    ms = 1000 * (time.perf_counter() - started) / seeds / len(students)
    measured = {name: correlations(values, accuracy, params, ms) for name, values in runs.items()}
    sizes = {"params": params, "macs": np.array([float(row["macs"]) for row in students])}
    return {**measured, **{name: correlations([values], accuracy, params, 0.0) for name, values in sizes.items()}}


def correlations(runs: list[np.ndarray], accuracy: np.ndarray, params: np.ndarray, ms: float) -> dict[str, float]:
    """Means over seeds; τ's standard deviation over them."""
    taus = [kendalltau(values, accuracy).statistic for values in runs]
    return {
        "tau": float(np.mean(taus)),
        "tau_sd": float(np.std(taus)),
        "rho": float(np.mean([spearmanr(values, accuracy).statistic for values in runs])),
        "partial_rho": float(np.mean([partial(values, accuracy, params) for values in runs])),
        "ms": ms,
    }


def partial(values: np.ndarray, accuracy: np.ndarray, given: np.ndarray) -> float:
    """Spearman's ρ of what is left of both when the rank of `given` is taken out; 0 where nothing is left."""
    ranks = [rankdata(x) for x in (values, accuracy, given)]
    xy, xz, yz = (np.corrcoef(ranks[a], ranks[b])[0, 1] for a, b in ((0, 1), (0, 2), (1, 2)))
    left = (1 - xz**2) * (1 - yz**2)
    return float((xy - xz * yz) / np.sqrt(left)) if left > 1e-12 else 0.0


if __name__ == "__main__":
    main()
