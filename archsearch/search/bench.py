"""What candidates are looked at with: one batch, seen through the teacher's eyes once, and the score of each."""

# N images, B batch, C channels, H W space, K classes

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from archsearch import domains
from archsearch.data.balanced import drawn_rows
from archsearch.data.batches import free_bytes, free_memory, require_room
from archsearch.data.shape import laid_out
from archsearch.data.task import Dataset, Task
from archsearch.device import alike, kind, where
from archsearch.errors import TooMuchMemory
from archsearch.evidence import NetworkEvidence, NotMeasured, draw_weights, keep, observe_student, observe_teacher
from archsearch.failures import NETWORK_FAILURES, reason_of
from archsearch.hardware import Limits, Ruler, fits
from archsearch.kernels import answered
from archsearch.memory import gigabytes
from archsearch.proxies import Undefined
from archsearch.proxies.score import Score, mean, reads, score
from archsearch.request import Architecture, SearchSpec
from archsearch.search.trial import Trial
from archsearch.spaces import Cost, Space
from archsearch.teachers import Teacher, input_bytes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Images of the batch where nobody says how many.
BATCH = 64
# Fewer images say too little: at 16 the ranking loses a hundredth.
_FEWEST_IMAGES = 16
# Before a candidate is built: what kernels hold beside tensors, copies of the weights (theirs, gradients, a spare), and
# how many maps of the largest size a graph keeps at most, about.
_KERNELS, _COPIES, _OFTEN = 1.5, 3, 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rung:
    """How closely a candidate is looked at: on which batch, prepared for students, and how many initialisations.

    Attributes:
        y_B: Labels; B×K of 0 and 1 where an image has many.
    """

    x: Tensor
    y_B: Tensor
    teacher: NetworkEvidence
    seeds: int


@dataclass(frozen=True)
class Bench:
    """What every candidate is measured against: rungs of rising fidelity, of which most searches have one."""

    task: Task
    rungs: tuple[Rung, ...]

    @property
    def device(self) -> torch.device:
        return self.rungs[-1].x.device


def prepare(
    spec: SearchSpec, teacher: Teacher, dataset: Dataset, *, device: str = "cpu", cache: Path | None = None
) -> Bench:
    """Draw the batch and look at it once through the teacher's eyes.

    The batch is balanced over classes, or over many labels, as far as its size allows, from the training split, by the
    request's seed; where that is too small, examples without labels fill it, with the teacher's answers for labels.
    With halving, each lower rung has half the images (a part of the same ones) and half the initialisations.

    Args:
        cache: Folder where the teacher's evidence is kept for other searches; None keeps nothing.
    """
    if spec.batch_size is None:
        spec = spec.model_copy(update={"batch_size": min(BATCH, dataset.training_examples)})
    before = where(teacher.model)
    try:
        rungs = [_rung(spec, teacher, dataset, device, cache, *fidelity) for fidelity in fidelities(spec)]
    finally:
        teacher.model.to(before)
    return Bench(dataset.task, tuple(rungs))


def fidelities(spec: SearchSpec) -> list[tuple[int, int]]:
    """Images and initialisations of each rung, lowest first."""
    found = [(spec.batch_size or BATCH, spec.seeds)]
    while spec.halving and found[0][0] >= 2 * _FEWEST_IMAGES:
        images, seeds = found[0]
        found.insert(0, (images // 2, -(-seeds // 2)))
    return found


def _rung(
    spec: SearchSpec, teacher: Teacher, dataset: Dataset, device: str, cache: Path | None, images: int, seeds: int
) -> Rung:
    x, y = (tensor.to(device) for tensor in _drawn(teacher, dataset, images, spec.seed))
    x = laid_out(x)
    read = reads(spec.score, dataset.task.domain)

    def look(at: str) -> NetworkEvidence:
        def now() -> NetworkEvidence:
            return observe_teacher(teacher.model.to(at), teacher.prepare(x.to(at)), y.to(at), read)

        return keep(cache, teacher.identity, dataset.sha256, (spec.seed, images), read, now, device=alike(at))

    evidence, task = _where_it_fits(look, device).to(device), dataset.task
    return Rung(domains.of(task).prepare(x, task), y, evidence, seeds)


def _drawn(teacher: Teacher, dataset: Dataset, images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Examples and their labels; of those that have none, what the teacher answers."""
    import torch

    rows, others = drawn_rows(dataset, images, seed)
    x, y = dataset.train.examples(rows), dataset.train.take(rows).labels()
    if dataset.unlabelled is None or not len(others):
        return x, y
    added = dataset.unlabelled.take(others)
    with torch.no_grad():
        answers_BK = teacher.logits(added.examples(slice(None)).to(where(teacher.model))).cpu()
    # Joined before they are tensors: texts have to become as long as the longest of all.
    x = dataset.train.take(rows).joined([added]).examples(slice(None))
    return x, torch.cat((y, answered(answers_BK, y)))


def _where_it_fits(look: Callable[[str], NetworkEvidence], device: str) -> NetworkEvidence:
    """A look that cannot be taken in pieces, for it compares all images: where a GPU has no room, on the processor."""
    import torch

    with suppress(torch.OutOfMemoryError):
        return look(device)
    if kind(device) == "cpu":
        raise TooMuchMemory(
            "the teacher's look at the batch takes more memory than there is; give a smaller search.batch_size",
            field="search.batch_size",
        )
    free_memory()  # out here, where the error no longer holds what filled it
    log.warning("%s has no room for the teacher's look at the batch: the processor takes it", device)
    return look("cpu")


class Look(Protocol):
    """Scores a candidate that fits the budget; `evaluate` is the one that looks at networks."""

    def __call__(
        self,
        spec: SearchSpec,
        space: Space,
        bench: Bench,
        architecture: Architecture,
        ruler: Ruler,
        number: int = 0,
        seen: Sequence[Sequence[float]] = (),
    ) -> Trial: ...


def evaluate(
    spec: SearchSpec,
    space: Space,
    bench: Bench,
    architecture: Architecture,
    ruler: Ruler,
    number: int = 0,
    seen: Sequence[Sequence[float]] = (),
) -> Trial:
    """Build a candidate and score it, after holding its cost against the budget.

    Args:
        seen: Other candidates' scores at each rung. A candidate that is not among the best one in `spec.halving` of
            its rung stops there (asynchronous successive halving, Li et al. 2020, algorithm 2).
    """

    def stop(rung: int, value: float) -> bool:
        return stops(spec, value, rung, seen)

    return tried(space, architecture, ruler, number, lambda: climb(spec, space, bench, architecture, stop))


def tried(space: Space, architecture: Architecture, ruler: Ruler, number: int, climb: Callable[[], Climb]) -> Trial:
    """A candidate looked at if its cost holds the limits, with the time that took."""
    started = time.monotonic()
    measure, estimate = partial(ruler.measure, space), partial(ruler.estimate, space)
    cost, reason = price(architecture, ruler.limits, measure=measure, estimate=estimate)
    climbed = Climb((), reason) if reason is not None else climb()
    return as_trial(space, architecture, cost, climbed, number, time.monotonic() - started)


@dataclass(frozen=True)
class Climb:
    """What a candidate showed, rung by rung from the lowest.

    Attributes:
        reached: Its score at every rung it was looked at on.
        reason: Why it could not be looked at on the next one; None where it could, or was not to be.
    """

    reached: tuple[Score, ...]
    reason: str | None = None


def price(
    architecture: Architecture,
    limits: Limits,
    *,
    measure: Callable[[Architecture], Cost],
    estimate: Callable[[Architecture], Cost],
) -> tuple[Cost, str | None]:
    """What a candidate costs, and why it is not to be looked at, if so."""
    try:
        cost = measure(architecture)
    except NETWORK_FAILURES as error:
        return estimate(architecture), reason_of(error)
    return cost, None if fits(cost, limits) else "beyond the budget"


def climb(
    spec: SearchSpec,
    space: Space,
    bench: Bench,
    architecture: Architecture,
    stop: Callable[[int, float], bool],
    start: int = 0,
) -> Climb:
    """Look at a candidate on one rung after another.

    Args:
        stop: Whether it goes no further, by the number of the rung it was looked at on and its score there.
        start: The rung to begin with.
    """
    reached: list[Score] = []
    reason = _beyond_memory(space, bench, architecture)
    try:
        for i, rung in enumerate(bench.rungs[start:] if reason is None else (), start):
            scores = [_score(spec, space, bench, rung, architecture, spec.seed + j) for j in range(rung.seeds)]
            reached.append(mean(scores))
            if stop(i, reached[-1].value):
                break
    except Undefined as error:
        reason = str(error)
    except NotMeasured:  # a proxy's mistake and not the network's
        raise
    except NETWORK_FAILURES as error:
        log.info("%s %s: %s", space.name, dict(architecture), reason_of(error), exc_info=True)
        reason = reason_of(error)
    if reason is not None:
        # Out here, where the error no longer holds the network that failed, and all that was made of it.
        free_memory()
        reason = _beyond_memory(space, bench, architecture, exactly=True) or reason
    return Climb(tuple(reached), reason)


def stops(spec: SearchSpec, value: float, rung: int, seen: Sequence[Sequence[float]]) -> bool:
    """Whether a candidate of that score is looked at no more closely than on the rung of that number."""
    return spec.halving is not None and bool(seen) and not _promoted(value, seen[rung], spec.halving)


def as_trial(
    space: Space, architecture: Architecture, cost: Cost, climbed: Climb, number: int, seconds: float
) -> Trial:
    """A candidate with its number among the others; failed if it could not be looked at as closely as it was to be."""
    if climbed.reason is not None:
        return Trial(
            number, space.name, architecture, cost, "failed", None, {}, {}, climbed.reason, seconds, (), space.start
        )
    last, values = climbed.reached[-1], tuple(result.value for result in climbed.reached)
    return Trial(
        number=number,
        space=space.name,
        architecture=architecture,
        cost=cost,
        state="scored",
        score=last.value,
        proxies=last.proxies,
        votes=last.votes,
        reason=None,
        seconds=seconds,
        rungs=values,
        start=space.start,
    )


def require_room_for(images: int, teacher: Teacher, task: Task) -> None:
    """Raise TooMuchMemory where the teacher cannot look at the batch all candidates are scored on."""
    one = input_bytes(teacher.model, teacher.shape(task))
    if one is not None:
        require_room(
            _KERNELS * one * images,
            f"the teacher's look at {images} {teacher.told(task)}",
            field="search.batch_size",
            fix="give a smaller search.batch_size",
        )


def _beyond_memory(space: Space, bench: Bench, architecture: Architecture, *, exactly: bool = False) -> str | None:
    """Why a candidate is not to be looked at on all images at once; None where there is room, or nothing can be told.

    Args:
        exactly: Count also where the closed form sees nothing to worry about.
    """
    import torch

    task, images = bench.task, len(bench.rungs[-1].x)
    try:
        count = space.count(architecture, task)
        free = free_bytes(bench.device)
        if not exactly and _OFTEN * 4 * images * count.peak + _COPIES * 4 * count.params < free:
            return None
        with torch.device("meta"):
            model = space.build(architecture, task)
        weights = sum(value.nbytes for value in (*model.parameters(), *model.buffers()))
        pair = input_bytes(model.train(), domains.of(task).shape(task), count=2, graph=True)
        needed = _COPIES * weights + _KERNELS * images * (0 if pair is None else pair / 2)
    except NETWORK_FAILURES:  # what it fails with is told once it is really built
        return None
    if needed <= free:
        return None
    return f"it takes about {gigabytes(needed)} of memory for {images} images, and {gigabytes(free)} are free"


def bars(spec: SearchSpec, seen: Sequence[Sequence[float]]) -> list[float]:
    """The scores below which a candidate is looked at no more closely, of every rung."""
    if spec.halving is None:
        return [-math.inf for _ in seen]
    return [sorted(others)[-max(1, (len(others) + 1) // spec.halving)] if others else -math.inf for others in seen]


def _promoted(value: float, others: Sequence[float], factor: int) -> bool:
    """Whether a score is among the best one in `factor` of its rung, itself included; the first always is."""
    better = sum(other > value for other in others)
    return better < max(1, (len(others) + 1) // factor)


def _score(spec: SearchSpec, space: Space, bench: Bench, rung: Rung, architecture: Architecture, seed: int) -> Score:
    import torch

    with torch.random.fork_rng(devices=[bench.device] if bench.device.type == "cuda" else []):
        torch.manual_seed(seed)
        # Initial weights are drawn on the CPU, the same for every device.
        student = space.build(architecture, bench.task)
        draw_weights(student)
        student = student.to(bench.device).to(memory_format=torch.channels_last)
        read = reads(spec.score, bench.task.domain)
        evidence = observe_student(student, rung.x, rung.y_B, rung.teacher, read, spec.precision)
        return score(evidence, spec.score, bench.task.domain)
