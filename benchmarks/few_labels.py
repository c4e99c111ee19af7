"""What a few labels a class make, alone, with a teacher, and with what has no labels beside them; and none at all.

    python -m benchmarks.few_labels [--data ../shared/data] [--only digits] [--shots 0 1 5 10 50] [--draws 3]
        [--steps 720] [--json FILE]

The teacher has learned from all labels. The students are one network, from the same noise, with as many steps of as
many images: on the labels alone, with the teacher on the labelled images alone, and with the teacher on all images, a
quarter of each batch labelled. With no label at all (0) the teacher's answers are all there is to learn, and to
select by; what is told is accuracy on the true labels of the test split all the same. That split is read once, after
the last step. Every draw of labels is another seed of the training, too. The digits come with scikit-learn; `--data`
adds CIFAR-10 of 1,700 images at 16 px.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import archsearch
from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.data.shots import few_shots
from archsearch.data.task import unknown
from archsearch.distill.train import logits, train
from archsearch.domains.images import load_digits, load_npz
from archsearch.request import DigitsData, DistillSpec, LocalTeacher
from archsearch.spaces import spaces
from archsearch.teachers import Teacher, load_teacher
from archsearch.teachers.stand_in import stand_in

BATCH = 32
# What a student learns from, with the method and what becomes of images without labels.
ARMS = {
    "labels alone": ("none", "drop"),
    "teacher, labelled images": ("kd", "drop"),
    "teacher, all images": ("kd", "unlabelled"),
}
SMALL = {"depth1": 1, "depth2": 1, "depth3": 1, "width1": 16, "width2": 16, "width3": 32}


@dataclass(frozen=True)
class Run:
    """One training; `shots` is None where all labels are kept and 0 where none is, accuracy in percent of the test
    split."""

    data: str
    shots: int | None
    arm: str
    draw: int
    labelled: int
    images: int
    steps: int
    test_acc: float
    seconds: float


def datasets(folder: Path | None, scratch: Path) -> Iterator[tuple[str, dict[str, Any], Dataset, str]]:
    """Each with how a request names it, and its augmentation."""
    yield "digits", {"kind": "digits"}, load_digits(), "crop"
    if folder is not None:
        path = halved_cifar(folder, scratch / "cifar10.npz")
        yield "cifar10 at 16 px", {"kind": "npz", "path": str(path)}, load_npz(path), "crop_flip"


def halved_cifar(folder: Path, path: Path) -> Path:
    """CIFAR-10, halved in height and width, as an .npz."""
    import numpy as np

    from benchmarks.cifar import load_cifar

    whole, arrays = load_cifar(folder, 10), dict[str, Any]()
    for name in ("train", "selection", "test"):
        split = getattr(whole, name)
        count, height, width, channels = split.x_NHWC.shape
        parts = split.x_NHWC.reshape(count, height // 2, 2, width // 2, 2, channels).astype(np.float32)
        arrays |= {f"x_{name}": np.round(parts.mean((2, 4))).astype(np.uint8), f"y_{name}": split.y_N}
    np.savez(path, **arrays)
    return path


def taught(source: dict[str, Any], folder: Path, augment: str, epochs: int = 30) -> Teacher:
    """A teacher of all labels, larger than its students."""
    spec = {"epochs": epochs, "batch_size": BATCH, "augment": augment}
    args = {"depths": [2, 2, 2], "widths": [32, 48, 64]}
    archsearch.train_teacher(source, folder, model_args=args, spec=spec)
    return load_teacher(LocalTeacher(path=folder))


def without_labels(whole: Dataset) -> Dataset:
    """The data as they are read where nobody has labelled anything."""
    task: Any = whole.task
    splits: dict[str, Any] = {name: getattr(whole, name) for name in ("train", "selection", "test")}
    blank: dict[str, Any] = {name: replace(split, y_N=unknown(len(split))) for name, split in splits.items()}
    task = replace(task, classes=0, class_names=(), prevalence=(), truth="teacher")
    return replace(whole, task=task, sha256=f"none{whole.sha256[4:]}", **blank)


def arms(shots: int | None) -> list[str]:
    """What can be compared with so many labels a class."""
    every = [*ARMS]
    return every[:2] if shots is None else every[2:] if shots == 0 else every


def learn(
    name: str, whole: Dataset, teacher: Teacher, augment: str, shots: int | None, arm: str, draw: int, steps: int
) -> Run:
    """One student."""
    import torch

    method, rest = ARMS[arm]
    if shots == 0:
        dataset = stand_in(without_labels(whole), teacher)
    else:
        dataset = whole if shots is None else few_shots(whole, DigitsData(shots=shots, shots_seed=draw, rest=rest))
    images = dataset.training_examples
    batch_size = min(BATCH, images)
    epochs = math.ceil(steps / (images // batch_size))
    spec = DistillSpec.model_validate(
        {"method": method, "epochs": epochs, "batch_size": batch_size, "augment": augment, "seed": draw}
    )
    space = spaces.get("resnet_cifar")
    torch.manual_seed(draw)
    model = space.build(SMALL, dataset.task)
    started, learned_from = time.monotonic(), None if method == "none" else teacher
    *_, last = train(model, dataset, spec, teacher=learned_from, optimizer=space.optimizer)
    acc = accuracy(partial(logits, model, dataset.task), whole.test)
    labelled, seconds = 0 if shots == 0 else len(dataset.train), time.monotonic() - started
    return Run(name, shots, arm, draw, labelled, images, last.steps, acc, seconds)


def run_all(
    folder: Path | None, only: str | None, shots: Sequence[int], draws: int, steps: int
) -> tuple[list[Run], dict[str, float]]:
    """Every arm of every number of labels, and what the teachers reach."""
    runs, teachers = list[Run](), dict[str, float]()
    with tempfile.TemporaryDirectory() as scratch:
        for name, source, whole, augment in datasets(folder, Path(scratch)):
            if only is not None and not name.startswith(only):
                continue
            teacher = taught(source, Path(scratch) / name, augment)
            teachers[name] = accuracy(teacher.logits, whole.test)
            for count in (*shots, None):
                for arm in arms(count):
                    for draw in range(draws):
                        runs.append(learn(name, whole, teacher, augment, count, arm, draw, steps))
                        told = runs[-1]
                        Console(stderr=True).print(
                            f"{name} {'all' if count is None else count} {arm} {draw}: {told.test_acc:.2f}"
                        )
    return runs, teachers


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Mean and deviation over the draws, in the order of the runs."""
    grouped: dict[tuple[str, int | None, str], list[float]] = {}
    for run in runs:
        grouped.setdefault((run.data, run.shots, run.arm), []).append(run.test_acc)
    return [
        {
            "data": data,
            "shots": shots,
            "arm": arm,
            "draws": len(found),
            "mean": statistics.mean(found),
            "sd": statistics.stdev(found) if len(found) > 1 else 0.0,
        }
        for (data, shots, arm), found in grouped.items()
    ]


def gains(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What images without labels add, in points, at every number of labels."""
    by_arm = {(row["data"], row["shots"], row["arm"]): row["mean"] for row in found}
    every = "teacher, all images"
    return [
        {
            "data": data,
            "shots": shots,
            **{f"over {arm}": mean - by_arm[data, shots, arm] for arm in ARMS if arm != every},
        }
        for (data, shots, one), mean in by_arm.items()
        if one == every and shots  # without any label there is nothing to gain over
    ]


def show(found: Sequence[dict[str, Any]], teachers: dict[str, float]) -> None:
    table = Table(title="Test accuracy in percent, mean ± deviation over draws")
    for column in ("data", "labels a class", *ARMS):
        table.add_column(column, justify="left" if column == "data" else "right")
    cells: dict[tuple[str, int | None], dict[str, str]] = {}
    for row in found:
        cells.setdefault((row["data"], row["shots"]), {})[row["arm"]] = f"{row['mean']:.2f} ± {row['sd']:.2f}"
    for (data, shots), by_arm in cells.items():
        table.add_row(data, "all" if shots is None else str(shots), *(by_arm.get(arm, "") for arm in ARMS))
    Console().print(table)
    for data, acc in teachers.items():
        print(f"{data}: the teacher reaches {acc:.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the evaluation data, for CIFAR-10 beside the digits")
    parser.add_argument("--only", help="data whose name begins so")
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 1, 5, 10, 50], help="labels a class")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--steps", type=int, default=720, help="of every training")
    parser.add_argument("--json", type=Path, help="where the numbers go as JSON")
    arguments = parser.parse_args()
    runs, teachers = run_all(arguments.data, arguments.only, arguments.shots, arguments.draws, arguments.steps)
    found = rows(runs)
    show(found, teachers)
    if arguments.json:
        told = {"rows": found, "gains": gains(found), "teachers": teachers, "runs": [asdict(run) for run in runs]}
        arguments.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
