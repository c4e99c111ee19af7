"""What a search gains by several processes: guesses that came true, and candidates a second.

    python -m benchmarks.workers [--candidates 96] [--samplers tpe random] [--workers 2 4 8] [--real 2] [--json FILE]

The search is one of ResNets for 32×32 images of 100 classes, within 300,000 parameters; images and teacher are noise,
which costs what others cost. Two measurements:

    virtual      every candidate is really scored, and every proposal really made, but time is a virtual clock's, that
                 moves on by the CPU seconds each of them took: a core for each process and one for the proposals are
                 assumed, and whatever else runs on this machine is no concern. `speed-up` is against one process on the
                 same clock. `foreseen` is the share of candidates that were being scored, or had been, when they were
                 proposed; `wasted` the share of guesses that were never proposed.
    --real N     the same search by one process and by N, in turns, on the wall's clock, from the first candidate on
                 (`whole`) and once the processes are there (`settled`); the median of --repeats

Trials are compared each time: a run whose trials differ from those of one process ends the benchmark.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table

from archsearch.device import cores
from archsearch.domains.images.task import ImageTask
from archsearch.evidence import observe_teacher
from archsearch.hardware import Limits, Ruler
from archsearch.hardware.devices import pinned
from archsearch.models import CifarResNet
from archsearch.proxies.score import reads
from archsearch.request import Architecture, Sampler, SearchSpec
from archsearch.search import Bench, Rung, Told, Trial, evaluate, key, search, side_by_side
from archsearch.spaces import Space, spaces

TASK = ImageTask(100, 3, 32, 32, (0.5,) * 3, (0.25,) * 3)
SPACE = spaces.get("resnet_cifar")
RULER = Ruler(TASK, Limits(params=300_000, macs=50_000_000))


@dataclass(frozen=True)
class Row:
    """One sampler with so many processes."""

    sampler: str
    workers: int
    candidates_per_s: float
    speed_up: float
    foreseen: float
    wasted: float


@dataclass(frozen=True)
class Real:
    """The same search by one process and by several, on the wall's clock."""

    workers: int
    whole: float
    settled: float
    candidates_per_s: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=96)
    parser.add_argument("--samplers", nargs="+", choices=get_args(Sampler), default=["tpe", "nsga2", "random"])
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--real", type=int, default=0, help="so many processes on the wall's clock; default: none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    bench, clock = noise(), Clock()
    rows = [row for name in arguments.samplers for row in virtual(bench, clock, name, arguments)]
    show(rows)
    real = on_the_wall(bench, arguments) if arguments.real else None
    if real is not None:
        print(f"on the wall's clock, {real.workers} processes over one: {real.settled:.2f} once they are there, "
              f"{real.whole:.2f} from the first candidate on, {real.candidates_per_s:.1f} candidates/s")  # fmt: skip
    if arguments.json:
        told = {"rows": [asdict(row) for row in rows], "real": None if real is None else asdict(real)}
        told["summary"] = {f"{row.sampler}_{row.workers}": round(row.speed_up, 2) for row in rows}
        arguments.json.write_text(json.dumps(told, indent=2) + "\n")


def noise() -> Bench:
    generator = torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(64, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    y_B = torch.randint(TASK.classes, (64,), generator=generator)
    torch.manual_seed(0)
    teacher = CifarResNet((3, 3, 3), num_classes=TASK.classes).train()
    return Bench(TASK, (Rung(x_BCHW, y_B, observe_teacher(teacher, x_BCHW, y_B, reads()), 1),))


class Clock:
    """Moves on by this thread's CPU seconds, but for those that scores took, which are made once and remembered."""

    def __init__(self) -> None:
        self.scored: dict[str, tuple[Trial, float]] = {}
        self._ahead = 0.0

    def now(self) -> float:
        return time.thread_time() + self._ahead

    def wait_until(self, moment: float) -> None:
        self._ahead += max(0.0, moment - self.now())

    def score(self, spec: SearchSpec, space: Space, bench: Bench, architecture: Architecture) -> tuple[Trial, float]:
        """A candidate and the seconds its score takes; takes none on this clock."""
        name, before = key(space.name, architecture), time.thread_time()
        if name not in self.scored:
            trial = evaluate(spec, space, bench, architecture, RULER)
            self.scored[name] = trial, time.thread_time() - before
        self._ahead -= time.thread_time() - before
        return self.scored[name]


class Virtual:
    """A pool of processes on a virtual clock, each with a core of its own, there from the beginning."""

    def __init__(self, count: int, spec: SearchSpec, bench: Bench, clock: Clock) -> None:
        self.told, self.threads, self.ready = Told(count, torch.get_num_threads()), torch.get_num_threads(), count
        self._score = partial(clock.score, spec, SPACE, bench)
        self._clock = clock
        self._doing: list[tuple[float, str, Trial]] = []

    @property
    def idle(self) -> int:
        return self.ready - len(self._doing)

    def start(self, name: str, asked: Mapping[str, Any]) -> None:
        trial, seconds = self._score(asked["architecture"])
        heapq.heappush(self._doing, (self._clock.now() + seconds, name, trial))

    def finished(self, *, wait: bool) -> list[tuple[str, Mapping[str, Any]]]:
        if wait:
            self._clock.wait_until(self._doing[0][0])
        found: list[tuple[str, Mapping[str, Any]]] = []
        while self._doing and self._doing[0][0] <= self._clock.now():
            _, name, trial = heapq.heappop(self._doing)
            reached = [{"value": trial.score, "proxies": trial.proxies, "votes": trial.votes}]
            seconds = self._clock.scored[name][1]
            found.append((name, {"reached": reached if trial.score is not None else [], "reason": trial.reason,
                                 "seconds": seconds}))  # fmt: skip
        return found


def virtual(bench: Bench, clock: Clock, sampler: str, arguments: argparse.Namespace) -> list[Row]:
    """One process, and then so many."""
    spec = SearchSpec.model_validate({"candidates": arguments.candidates, "sampler": sampler})

    def alone(
        spec: SearchSpec, space: Space, bench: Bench, architecture: Architecture, *_: Any, number: int, **__: Any
    ) -> Trial:
        trial, seconds = clock.score(spec, space, bench, architecture)
        clock.wait_until(clock.now() + seconds)
        return Trial(**{**vars(trial), "number": number})

    list(search(spec, bench, RULER, [SPACE], look=alone))  # imports, and everything scored
    began = clock.now()
    trials = list(search(spec, bench, RULER, [SPACE], look=alone))
    one_s = clock.now() - began
    rows = []
    for workers in arguments.workers:
        pool, began = Virtual(workers, spec, bench, clock), clock.now()
        require_same(trials, list(search(spec, bench, RULER, [SPACE], look=alone, pool=pool)))
        seconds, told = clock.now() - began, pool.told
        rows.append(Row(sampler, workers, len(trials) / seconds, one_s / seconds, told.used / len(trials),
                        1 - told.used / max(1, told.guesses)))  # fmt: skip
    return rows


def on_the_wall(bench: Bench, arguments: argparse.Namespace) -> Real:
    """One process with a thread a core, as a search has it, against several that share the cores; the trials of these
    are those of one process with as many threads as each of them has."""
    whole, settled, pace = [], [], []
    with pinned(max(1, cores() // arguments.real)):
        alike = timed(bench, arguments.candidates, 1)[0]
    for _ in range(arguments.repeats):
        one, two = (timed(bench, arguments.candidates, workers) for workers in (1, arguments.real))
        require_same(alike, two[0])
        whole.append(one[1] / two[1])
        settled.append(one[2] / two[2])
        pace.append(1 / two[2])
    return Real(arguments.real, median(whole), median(settled), median(pace))


def timed(bench: Bench, candidates: int, workers: int) -> tuple[list[Trial], float, float]:
    """The trials, seconds in all, and seconds for one of the last half."""
    spec = SearchSpec(candidates=candidates, workers=workers)
    began = time.monotonic()
    with side_by_side(spec, bench, [SPACE]) as pool:
        moments, trials = [time.monotonic()], []
        for trial in search(spec, bench, RULER, [SPACE], pool=pool):
            trials.append(trial)
            moments.append(time.monotonic())
        half = len(trials) // 2
        return trials, moments[-1] - began, (moments[-1] - moments[half]) / (len(trials) - half)


def require_same(one: Sequence[Trial], other: Sequence[Trial]) -> None:
    """Leave if two searches did not tell the same."""
    if [{**vars(t), "seconds": 0} for t in one] != [{**vars(t), "seconds": 0} for t in other]:
        sys.exit("the trials are not those of one process")


def show(rows: Sequence[Row]) -> None:
    table = Table("sampler", "processes", "candidates/s", "speed-up", "foreseen", "wasted")
    for row in rows:
        table.add_row(row.sampler, str(row.workers), f"{row.candidates_per_s:.1f}", f"{row.speed_up:.2f}",
                      f"{row.foreseen:.0%}", f"{row.wasted:.0%}")  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
