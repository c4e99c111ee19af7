"""Members of a space timed on a device, kept for the next job, and the predictor they lead to."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from archsearch import domains
from archsearch.data.task import Task
from archsearch.errors import InvalidRequest
from archsearch.hardware.latency import Latency, describe_machine, measure_latency, require_device
from archsearch.hardware.predict.design import pick_members
from archsearch.hardware.predict.fitting import FEWEST, fit
from archsearch.hardware.predict.predictor import VERSION, Predictor
from archsearch.hardware.predict.table import Table, key
from archsearch.request import Architecture
from archsearch.spaces import Space
from archsearch.whole import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """What was timed on a device, and the predictor it led to."""

    space: str
    device: str
    batch: int
    threads: int
    members: tuple[Architecture, ...]
    latencies: tuple[Latency, ...]
    predictor: Predictor


def calibrate(
    space: Space,
    task: Task,
    device: str,
    batch: int,
    *,
    n: int = 20,
    seed: int = 0,
    threads: int = 1,
    cache: Path | None = None,
    feasible: Callable[[Architecture], bool] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Time `n` members of a space on a device and fit their latencies, or find that done before.

    Args:
        cache: Folder where calibrations lie, a JSON file each; None keeps nothing.
        feasible: Which members may be timed; None allows all.
        report: Called with the members timed and those to be timed, after each.

    Raises:
        InvalidRequest: No such device here, or a space too small to calibrate on.
        ImpossibleBudget: Nothing is feasible.
    """
    require_device(device)
    members = pick_members(space, task, feasible, n, seed)
    counts = [space.count(member, task) for member in members]
    if len(members) < FEWEST:
        raise InvalidRequest(
            f"{space.name} has {len(members)} members within the budget and at least {FEWEST} are timed; raise the "
            "budget or name another space",
            field="search.space",
        )
    latencies = _timed(space, task, members, device, batch, threads, cache, report)
    predictor = fit(counts, [latency.median_ms for latency in latencies])
    return Calibration(space.name, device, batch, threads, tuple(members), tuple(latencies), predictor)


def time_all(
    space: Space,
    task: Task,
    members: Sequence[Architecture],
    device: str,
    batch: int,
    *,
    threads: int = 1,
    cache: Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Table:
    """Time every one of some members on a device, or find that done before; arguments are those of `calibrate`."""
    require_device(device)
    latencies = _timed(space, task, members, device, batch, threads, cache, report)
    counts = [key(space.count(member, task)) for member in members]
    return Table({count: latency.median_ms for count, latency in zip(counts, latencies, strict=True)})


def _timed(
    space: Space,
    task: Task,
    members: Sequence[Architecture],
    device: str,
    batch: int,
    threads: int,
    cache: Path | None,
    report: Callable[[int, int], None] | None,
) -> list[Latency]:
    path = None if cache is None else cache / f"latency-{_identity(space, task, device, batch, threads, members)}.json"
    latencies = _kept(path, len(members))
    if latencies is None:
        latencies = []
        for member in members:
            latencies.append(_time(space, task, member, device, batch, threads))
            if report is not None:
                report(len(latencies), len(members))
        _keep(path, latencies)
    return latencies


def _time(space: Space, task: Task, member: Architecture, device: str, batch: int, threads: int) -> Latency:
    import torch

    # The caller's random numbers are its own.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = space.build(member, task)
    return measure_latency(model, domains.of(task).shape(task), device, batch=batch, threads=threads)


def _identity(space: Space, task: Task, device: str, batch: int, threads: int, members: Sequence[Architecture]) -> str:
    """Everything latencies depend on. A space's models are named, for a teacher's own space has no fixed meaning."""
    models = [(model.name, dict(model.args)) for model in (space.model(member, task) for member in members)]
    shape = (task.classes, *domains.of(task).shape(task).sizes)
    bounds = [asdict(parameter) for parameter in space.parameters(task)]
    parts = [VERSION, space.name, bounds, shape, device, batch, threads, describe_machine(), list(members), models]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _kept(path: Path | None, members: int) -> list[Latency] | None:
    if path is None:
        return None
    try:
        latencies = [Latency(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s cannot be read and is measured again: %s", path, error)
        return None
    return latencies if len(latencies) == members else None


def _keep(path: Path | None, latencies: Sequence[Latency]) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps([asdict(latency) for latency in latencies]))
    except OSError as error:
        log.warning("latencies cannot be kept in %s: %s", path.parent, error)
