"""The search: Optuna proposes, the budget is checked, one batch scores, and nothing is trained.

A search is a generator of trials. It keeps no state that its trials do not carry, so feeding it the trials it made
before continues it exactly where it was.
"""

# B batch, C channels, H W space, K classes

from __future__ import annotations

import json
import random
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from archsearch.data.task import Dataset, Task
from archsearch.errors import ImpossibleBudget
from archsearch.evidence import NetworkEvidence, draw_weights, keep, observe_student, observe_teacher
from archsearch.hardware import fits
from archsearch.proxies import Undefined
from archsearch.proxies.score import Score, check_weights, mean, reads, score
from archsearch.request import Architecture, SearchSpec
from archsearch.spaces import Cost, Parameter, Space, spaces
from archsearch.teachers import Teacher, normalise

if TYPE_CHECKING:
    import optuna
    import torch
    from torch import Tensor

# Proposals in a row that were all known already: a space this worn out has nothing left to show.
_GIVE_UP_AFTER = 200

# Fewer images say too little: at 16 the ranking loses a hundredth.
_FEWEST_IMAGES = 16


@dataclass(frozen=True)
class Trial:
    """One candidate and everything known about it.

    Attributes:
        score: In nats, higher is better; None when it failed. Of the highest rung reached.
        rungs: The score at every rung reached; without halving there is one rung.
        proxies: Each proxy as published; None where it is undefined for this candidate.
        votes: Each voter's share of the score, in nats.
        reason: Why a failed candidate has no score.
        seconds: Wall time from proposal to score.
    """

    number: int
    architecture: Architecture
    cost: Cost
    state: Literal["scored", "failed"]
    score: float | None
    proxies: Mapping[str, float | None]
    votes: Mapping[str, float]
    reason: str | None
    seconds: float
    rungs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Rung:
    """How closely a candidate is looked at: on which batch, normalised for students, and how many initialisations."""

    x_BCHW: Tensor
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
        return self.rungs[-1].x_BCHW.device


def check_search(spec: SearchSpec) -> Space:
    """The space, after checking every name the spec mentions."""
    check_weights(spec.score)
    return spaces.get(spec.space, field="search.space")


def prepare(
    spec: SearchSpec, teacher: Teacher, dataset: Dataset, *, device: str = "cpu", cache: Path | None = None
) -> Bench:
    """Draw the batch and look at it once through the teacher's eyes.

    The batch is class-balanced as far as its size allows, from the training split, by the request's seed. With halving,
    each lower rung has half the images (a part of the same ones) and half the initialisations.

    Args:
        cache: Folder where the teacher's evidence is kept for other searches; None keeps nothing.
    """
    rungs = [_rung(spec, teacher, dataset, device, cache, *fidelity) for fidelity in fidelities(spec)]
    teacher.model.to("cpu")  # where everyone else expects it
    return Bench(dataset.task, tuple(rungs))


def fidelities(spec: SearchSpec) -> list[tuple[int, int]]:
    """Images and initialisations of each rung, lowest first."""
    found = [(spec.batch_size, spec.seeds)]
    while spec.halving and found[0][0] >= 2 * _FEWEST_IMAGES:
        images, seeds = found[0]
        found.insert(0, (images // 2, -(-seeds // 2)))
    return found


def _rung(
    spec: SearchSpec, teacher: Teacher, dataset: Dataset, device: str, cache: Path | None, images: int, seeds: int
) -> Rung:
    import torch

    rows = _balanced_rows(dataset.train.y_N, images, spec.seed)
    x_BCHW = torch.from_numpy(dataset.train.x_NHWC[rows]).permute(0, 3, 1, 2).float() / 255
    x_BCHW = x_BCHW.to(device).contiguous(memory_format=torch.channels_last)
    y_B = torch.from_numpy(dataset.train.y_N[rows]).to(device)
    read = reads(spec.score)

    def look() -> NetworkEvidence:
        return observe_teacher(teacher.model.to(device), teacher.prepare(x_BCHW), y_B, read)

    # The same weights under another normalisation or at another size are another teacher.
    identity = f"{teacher.sha256} {teacher.mean} {teacher.std} {teacher.input_hw}"
    evidence = keep(cache, identity, dataset.sha256, (spec.seed, images), read, look).to(device)
    task = dataset.task
    return Rung(normalise(x_BCHW, task.mean, task.std), y_B, evidence, seeds)


def search(spec: SearchSpec, bench: Bench, limit: Cost, done: Iterable[Trial] = ()) -> Iterator[Trial]:
    """Propose, check and score candidates until the spec's count or time is reached or the space is exhausted.

    Args:
        limit: The budget in absolute numbers; no candidate beyond it is ever scored.
        done: Trials of an earlier run of the same search; it continues after them.

    Yields:
        New trials only. `spec.candidates` counts old and new together.
    """
    space = check_search(spec)
    parameters = space.parameters(bench.task)
    study = _study(spec)
    known: set[str] = set()
    # The scores seen at every rung, by which the next candidate is measured.
    seen: list[list[float]] = [[] for _ in bench.rungs]

    def note(trial: Trial) -> None:
        _tell(study, trial, parameters)
        known.add(key(trial.architecture))
        for scores, value in zip(seen, trial.rungs, strict=False):
            scores.append(value)

    for trial in done:
        note(trial)
    started = time.monotonic()
    while len(known) < spec.candidates:
        if spec.time_limit_s is not None and time.monotonic() - started >= spec.time_limit_s:
            return
        architecture = _propose(spec, space, study, bench.task, limit, known)
        if architecture is None:
            return
        trial = evaluate(spec, space, bench, architecture, limit, number=len(known), seen=seen)
        note(trial)
        yield trial


def evaluate(
    spec: SearchSpec,
    space: Space,
    bench: Bench,
    architecture: Architecture,
    limit: Cost,
    number: int = 0,
    seen: Sequence[Sequence[float]] = (),
) -> Trial:
    """Build a candidate and score it; the budget is checked before, by the closed form of its cost.

    Args:
        seen: Other candidates' scores at each rung. A candidate that is not among the best one in `spec.halving` of
            its rung stops there (asynchronous successive halving, Li et al. 2020, algorithm 2).
    """
    started = time.monotonic()
    cost = space.cost(architecture, bench.task)
    if not fits(cost, limit):
        return _failed(number, architecture, cost, "beyond the budget", started)
    reached: list[Score] = []
    try:
        for i, rung in enumerate(bench.rungs):
            scores = [_score(spec, space, bench, rung, architecture, spec.seed + j) for j in range(rung.seeds)]
            reached.append(mean(scores))
            if spec.halving and seen and not _promoted(reached[-1].value, seen[i], spec.halving):
                break
    except (Undefined, RuntimeError) as error:  # torch's out-of-memory is a RuntimeError
        return _failed(number, architecture, cost, str(error), started)
    last, values = reached[-1], tuple(result.value for result in reached)
    seconds = time.monotonic() - started
    return Trial(number, architecture, cost, "scored", last.value, last.proxies, last.votes, None, seconds, values)


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
        read = reads(spec.score)
        evidence = observe_student(student, rung.x_BCHW, rung.y_B, rung.teacher, read, spec.precision)
        return score(evidence, spec.score)


def winner(trials: Iterable[Trial]) -> Trial | None:
    """The best score of the highest rung; of equals the one with fewer parameters, then the earlier one."""
    scored = [trial for trial in trials if trial.score is not None]
    return max(scored, key=lambda t: (len(t.rungs), t.score, -t.cost.params, -t.number), default=None)


def key(architecture: Architecture) -> str:
    """The same text for the same architecture, whatever the order of its parameters."""
    return json.dumps(architecture, sort_keys=True, separators=(",", ":"))


def _failed(number: int, architecture: Architecture, cost: Cost, reason: str, started: float) -> Trial:
    return Trial(number, architecture, cost, "failed", None, {}, {}, reason, time.monotonic() - started)


def _study(spec: SearchSpec) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=_sampler(spec, 0, 0))


def _sampler(spec: SearchSpec, told: int, attempt: int) -> Any:
    """A fresh sampler for each proposal, seeded by where the search stands: a resumed search proposes the same."""
    import optuna

    seed = zlib.crc32(f"{spec.seed}/{told}/{attempt}".encode())
    # After a run of duplicates TPE has settled on a point; only chance leads away from it.
    if spec.sampler == "random" or attempt > 10:
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=16)


def _distributions(parameters: Iterable[Parameter]) -> dict[str, Any]:
    import optuna

    return {p.name: optuna.distributions.IntDistribution(p.low, p.values[-1], step=p.step) for p in parameters}


def _propose(
    spec: SearchSpec, space: Space, study: optuna.Study, task: Task, limit: Cost, known: set[str]
) -> Architecture | None:
    """A new architecture within the budget, or None when the space seems exhausted."""
    import optuna

    parameters = space.parameters(task)
    for attempt in range(_GIVE_UP_AFTER):
        study.sampler = _sampler(spec, len(known), attempt)
        asked = study.ask(fixed_distributions=_distributions(parameters))
        study.tell(asked, state=optuna.trial.TrialState.FAIL)  # what is told in earnest is the repaired proposal
        rng = random.Random(f"{spec.seed}/{len(known)}/{attempt}")
        architecture = _repair({name: int(v) for name, v in asked.params.items()}, space, parameters, task, limit, rng)
        if key(architecture) not in known:
            return architecture
    return None


def _repair(
    architecture: Architecture,
    space: Space,
    parameters: tuple[Parameter, ...],
    task: Task,
    limit: Cost,
    rng: random.Random,
) -> Architecture:
    """Step parameters down, one at a time and at random, until the architecture fits the budget.

    Under a tight budget nearly every proposal is too large. Rejecting them wastes the search (95-99 % of trials, say
    users of other searchers); stepping down ends on the budget's edge, which is where good students are.
    """
    architecture = dict(architecture)
    steps = {parameter.name: parameter for parameter in parameters}
    while not fits(space.cost(architecture, task), limit):
        shrinkable = [name for name, p in steps.items() if architecture[name] > p.low]
        if not shrinkable:
            raise ImpossibleBudget(f"the smallest network of {space.name} is beyond {limit}", field="budget")
        name = rng.choice(shrinkable)
        architecture[name] -= steps[name].step
    return architecture


def _tell(study: optuna.Study, trial: Trial, parameters: tuple[Parameter, ...]) -> None:
    import optuna

    # Pruned without a value is Optuna's word for worse than all that were scored; of failed ones it learns nothing.
    state = optuna.trial.TrialState.COMPLETE if trial.score is not None else optuna.trial.TrialState.PRUNED
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            # The lowest rung is the one that all candidates were looked at on.
            value=trial.rungs[0] if trial.rungs else trial.score,
            params=dict(trial.architecture),
            distributions=_distributions(parameters),
        )
    )


def _balanced_rows(y_N: Any, count: int, seed: int) -> Any:
    """Row numbers that take every class in turn, in random order, until there are `count`."""
    import numpy as np

    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y_N))
    labels = np.asarray(y_N)[order]
    # A row's turn is how many of its class came before it; sorting by turn takes one of each class, then the next.
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    turn = np.empty(len(labels), dtype=np.int64)
    turn[by_class] = np.arange(len(labels)) - starts
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])
