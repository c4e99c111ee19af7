"""What the default recipe makes of few images: as it was (60 epochs of batches of 128), and as it is chosen now.

    python -m benchmarks.small_data [--data ../shared/data] [--only digits] [--images 1300] [--seeds 1] [--json FILE]

The same networks, from the same noise, learn the same data under both; the test split is read once, after the last
epoch. Beside them stand guessing and a linear model of the pixels. Trainings that are over are kept in the cache
folder, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.distill.amount import amount, chosen
from archsearch.distill.train import logits, train
from archsearch.domains.images import load_digits
from archsearch.domains.images.task import ImageSplit
from archsearch.doubt import guessing, linear_model
from archsearch.errors import TrainingError
from archsearch.request import DistillSpec
from archsearch.settings import user_cache
from archsearch.spaces import Space, spaces
from benchmarks.cifar import load_cifar

# The defaults before the size of the data was asked.
BEFORE = {"epochs": 60, "batch_size": 128}
SPACES = ("resnet_cifar", "mobilenet", "regnet")
# Parameters (count) the networks have about: a small student's.
PARAMS = 60_000


@dataclass(frozen=True)
class Run:
    """One training; accuracy in percent at its last epoch, None where it diverged for good."""

    data: str
    images: int
    space: str
    recipe: str
    seed: int
    epochs: int
    batch_size: int
    steps: int
    test_acc: float | None
    seconds: float


def datasets(folder: Path, images: int | None) -> Iterator[tuple[str, Dataset]]:
    """The digits and, where they are there, CIFAR-10 of 2,000 images, halved in height and width, and of fewer."""
    yield "digits", _fewer(load_digits(), images)
    if folder.is_dir():
        yield "cifar10 at 16 px", _fewer(_halved(load_cifar(folder, 10)), images)


def _fewer(dataset: Dataset, images: int | None) -> Dataset:
    if images is None or images >= len(dataset.train):
        return dataset
    few = dataset.train.take(np.arange(images))
    return replace(dataset, train=few, sha256=f"{images}{dataset.sha256[8:]}")


def _halved(dataset: Dataset) -> Dataset:
    def half(split: ImageSplit) -> ImageSplit:
        count, height, width, channels = split.x_NHWC.shape
        parts = split.x_NHWC.reshape(count, height // 2, 2, width // 2, 2, channels).astype(np.float32)
        return ImageSplit(np.round(parts.mean((2, 4))).astype(np.uint8), split.y_N)

    task = replace(dataset.task, height=dataset.task.height // 2, width=dataset.task.width // 2)
    splits = {name: half(getattr(dataset, name)) for name in ("train", "selection", "test")}
    return replace(dataset, task=task, sha256="half" + dataset.sha256[4:], **splits)


def network(space: Space, dataset: Dataset) -> dict[str, int]:
    """The first architecture drawn that is about as large as asked; the smallest there is where none is that small."""
    import random

    rng, task, found = random.Random(0), dataset.task, space.smallest(dataset.task)
    near = abs(space.cost(found, task).params - PARAMS)
    for _ in range(2000):
        drawn = {one.name: rng.choice(list(one.values)) for one in space.parameters(task)}
        off = abs(space.cost(drawn, task).params - PARAMS)
        if off < near:
            found, near = drawn, off
    return found


def learn(name: str, dataset: Dataset, space: Space, recipe: str, seed: int) -> Run:
    """One network trained on the labels alone: what a teacher adds is another question."""
    import torch

    given = BEFORE if recipe == "before" else {}
    augment = "crop_flip" if dataset.task.in_chans == 3 else "crop"
    spec = DistillSpec.model_validate({**given, "method": "none", "augment": augment, "seed": seed})
    spec = chosen(spec, len(dataset.train)).spec
    torch.manual_seed(seed)
    model = space.build(network(space, dataset), dataset.task)
    started, whole, acc = time.monotonic(), amount(spec), None
    try:
        for _ in train(model, dataset, spec, teacher=None, optimizer=space.optimizer):
            pass
        acc = accuracy(partial(logits, model, dataset.task), dataset.test)
    except TrainingError:
        pass
    steps = len(dataset.train) // whole.batch_size * whole.epochs
    seconds = time.monotonic() - started
    images = len(dataset.train)
    return Run(
        name,
        images,
        space.name,
        recipe,
        seed,
        whole.epochs,
        whole.batch_size,
        steps,
        acc,
        seconds,
    )


def run_all(folder: Path, only: str | None, images: int | None, seeds: int) -> tuple[list[Run], list[dict[str, Any]]]:
    """Every network under both recipes, and what stands beside them."""
    runs, beside = [], []
    for name, dataset in datasets(folder, images):
        if only is not None and not name.startswith(only):
            continue
        beside.append(
            {
                "data": name,
                "images": len(dataset.train),
                "guessing": guessing(dataset.test, dataset.task),
                "linear_model": linear_model(dataset),
            }
        )
        for space in (spaces.get(one) for one in SPACES):
            for recipe in ("before", "now"):
                for seed in range(seeds):
                    runs.append(_kept(name, dataset, space, recipe, seed))
    return runs, beside


def _kept(name: str, dataset: Dataset, space: Space, recipe: str, seed: int) -> Run:
    """One training, or what is known of it already."""
    settled = chosen(
        DistillSpec.model_validate(BEFORE if recipe == "before" else {}),
        len(dataset.train),
    ).spec
    identity = json.dumps(
        [dataset.sha256, space.name, PARAMS, seed, settled.model_dump(mode="json")],
        sort_keys=True,
    )
    path = user_cache() / "small_data" / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
    if path.is_file():
        return Run(**json.loads(path.read_text()))
    run = learn(name, dataset, space, recipe, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(run)))
    Console(stderr=True).print(f"{run.data} {run.space} {run.recipe} {run.seed}: {run.test_acc}")
    return run


def show(runs: Sequence[Run], beside: Sequence[dict[str, Any]]) -> None:
    table = Table(title="Test accuracy in percent, trained on the labels alone, last epoch")
    for column in ("data", "images", "network", "recipe", "steps", "%", "seconds"):
        table.add_column(
            column,
            justify="left" if column in ("data", "network", "recipe") else "right",
        )
    for run in runs:
        recipe = f"{run.recipe}: {run.epochs} × {run.batch_size}"
        acc = "diverged" if run.test_acc is None else f"{run.test_acc:.2f}"
        table.add_row(
            run.data,
            str(run.images),
            run.space,
            recipe,
            str(run.steps),
            acc,
            f"{run.seconds:.0f}",
        )
    Console().print(table)
    for row in beside:
        print(f"{row['data']}: guessing {row['guessing']:.2f} %, a linear model of pixels {row['linear_model']:.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="folder of cifar10_3k.npz",
    )
    parser.add_argument("--only", help="data whose name begins so")
    parser.add_argument("--images", type=int, help="so many training images at most")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args()
    runs, beside = run_all(given.data, given.only, given.images, given.seeds)
    show(runs, beside)
    if given.json:
        body = {"runs": [asdict(run) for run in runs], "beside": beside}
        given.json.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
