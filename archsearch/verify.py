"""Verification: the best of a search are really distilled, briefly, before one of them is distilled in full.

No zero-cost score knows everything, least of all between families. Successive halving (Jamieson and Talwalkar 2016)
gives every contender a few epochs, the better half twice as many, and so on; the last one standing on the held-out
split is the winner. All contenders see the same images in the same views, so the teacher answers once for all of them
and later rounds find the answers of earlier ones.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch import domains
from archsearch.data.batches import free_memory, now_and_then
from archsearch.data.metrics import Metric, measure
from archsearch.data.task import Dataset
from archsearch.distill.amount import amount, chosen
from archsearch.distill.begun import begun
from archsearch.distill.schedule import gentle
from archsearch.distill.train import logits, train
from archsearch.errors import InvalidRequest, SearchError, TooMuchMemory, TrainingError
from archsearch.failures import NETWORK_FAILURES, reason_of
from archsearch.request import DistillSpec, VerifySpec
from archsearch.search import Trial
from archsearch.search.trial import key
from archsearch.spaces import Space
from archsearch.teachers import Teacher
from archsearch.whole import read_kept, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

Report = dict[str, Any]
log = logging.getLogger(__name__)

# What a short training of many has no use for.
_BRIEF = {"seeds": 1, "baseline": False, "ema": None, "devices": 1}


@dataclass(frozen=True)
class Contender:
    """A candidate under verification, and what it was worth after each round it was in (None where training failed)."""

    trial: Trial
    rounds: tuple[float | None, ...] = ()

    def standing(self, judge: Metric) -> tuple[int, float, float]:
        """What contenders are ordered by: rounds they trained in, what they were worth in the last of them, score."""
        trained = [value for value in self.rounds if value is not None]
        return len(trained), judge.merit(trained[-1] if trained else judge.worst), self.trial.score or 0.0


def contenders(trials: Sequence[Trial], count: int) -> list[Trial]:
    """The `count` most promising: the best of each space first, since scores compare best within one, then by score."""

    def place(trial: Trial) -> tuple[int, float]:
        return -trial.rung, -(trial.score or 0.0)

    distinct: dict[str, Trial] = {}
    for trial in sorted((t for t in trials if t.score is not None), key=place):
        distinct.setdefault(key(trial.space, trial.architecture), trial)
    ranked = list(distinct.values())
    best = {trial.space: trial for trial in reversed(ranked)}
    rest = [trial for trial in ranked if trial is not best[trial.space]]
    chosen = (sorted(best.values(), key=_promise) + rest)[:count]
    return sorted(chosen, key=lambda t: (*_promise(t), t.number))


def _promise(trial: Trial) -> tuple[bool, float]:
    """What begins with trained weights before noise, whose scores are of another kind; then by score."""
    return trial.start == "scratch", -(trial.score or 0.0)


def affordable(spec: VerifySpec, distill: DistillSpec, trials: Sequence[Trial]) -> list[Trial]:
    """Those of the contenders whose brief trainings stay within the share of what training the first of them takes.

    Two at least: there has to be something to choose between. One pass over the images costs a network's
    multiply-accumulates; what the teacher costs is the same for all, and left out.
    """
    if spec.share is None:
        return list(trials)
    allowed = spec.share * amount(distill).epochs * (distill.seeds + distill.baseline) * trials[0].cost.macs
    while len(trials) > 2 and _passes(spec, trials) > allowed:
        trials = trials[:-1]
    return list(trials)


def _passes(spec: VerifySpec, trials: Sequence[Trial]) -> float:
    """Multiply-accumulates of all rounds, each of the costliest there may be in it, for every image of the data."""
    macs = sorted((trial.cost.macs for trial in trials), reverse=True)
    return sum(epochs * sum(macs[:count]) for count, epochs in rounds(spec, len(trials)))


def rounds(spec: VerifySpec, count: int) -> list[tuple[int, int]]:
    """(contenders, epochs) of every round: halves of the contenders at twice the epochs, until one is left."""
    found: list[tuple[int, int]] = []
    epochs = spec.epochs
    while count > 1 and (spec.rounds is None or len(found) < spec.rounds):
        found.append((count, epochs))
        count, epochs = -(-count // 2), 2 * epochs
    return found


def verify(
    spec: VerifySpec,
    distill: DistillSpec,
    trials: Sequence[Trial],
    spaces: Mapping[str, Space],
    teacher: Teacher,
    dataset: Dataset,
    *,
    folder: Path,
    cache: Path | None,
    report: Callable[[Report], None],
) -> Report:
    """Distil contenders in rounds and say who won, what it cost, and how the ranks changed.

    Args:
        trials: The contenders, as `contenders` chooses them.
        folder: Where rounds that are over and trainings under way are kept, so that a crash loses none of them.
        report: Told where the verification stands.

    Raises:
        SearchError: None of the contenders could be trained.
    """
    started, distill = time.monotonic(), chosen(distill, dataset.training_examples, domains.of(dataset.task).pace).spec
    judge = domains.judge(dataset.task)
    kept = _Kept(folder / "verify.json")
    trials = affordable(spec, distill, trials)
    field = [Contender(trial) for trial in trials]
    plan = rounds(spec, len(field))
    whole, done = sum(count * epochs for count, epochs in plan), 0
    for number, (count, epochs) in enumerate(plan, 1):
        standing = sorted(field, key=lambda c: c.standing(judge), reverse=True)
        for contender in standing[:count]:
            name = f"{contender.trial.number}-{epochs}"
            if name not in kept.values:
                where = {"round": number, "rounds": len(plan), "contenders": count}

                def seen(share: float, done: int = done, epochs: int = epochs, where: Report = where) -> None:
                    progress = (done + share * epochs) / whole
                    eta_s = (time.monotonic() - started) / max(progress, 1e-9) * (1 - progress)
                    report({"phase": "verifying", **where, "progress": progress, "eta_s": eta_s})

                brief = distill.model_copy(update={**_BRIEF, "epochs": epochs})
                space = spaces[contender.trial.space]
                path = folder / f"{name}.safetensors"
                read = space.read(contender.trial.architecture, dataset)
                kept.add(name, _distil(contender.trial, space, brief, teacher, read, path, cache, seen))
                for left in folder.glob(f"{name}.*"):
                    left.unlink()
            done += epochs
            field[field.index(contender)] = Contender(contender.trial, (*contender.rounds, kept.values[name]["acc"]))
    return _summary(field, plan, kept, time.monotonic() - started, judge)


def _distil(
    trial: Trial,
    space: Space,
    spec: DistillSpec,
    teacher: Teacher,
    dataset: Dataset,
    path: Path,
    cache: Path | None,
    seen: Callable[[float], None],
) -> dict[str, Any]:
    """One brief training: what it is worth on the selection split, and what it took."""
    task, started, share, failed = dataset.task, time.monotonic(), 0.0, ""
    alive = now_and_then(lambda: seen(share))
    kept: dict[str, Any] = {"checkpoint_path": path, "cache": cache, "alive": alive}
    try:
        model = begun(space, trial.architecture, task, spec.seed, path.with_suffix(".start.safetensors"))
        optimizer = space.learns_by(trial.architecture)
        spec = gentle(spec, space.start, optimizer)
        for progress in train(model, dataset, spec, teacher=teacher, optimizer=optimizer, **kept):
            share = progress.step / progress.steps
            seen(share)
        reached = measure(domains.judge(task), lambda x: logits(model, task, x), dataset.selection, report=alive)
        if not math.isfinite(reached):  # only a loss tells; right or wrong are answers that are no numbers, too
            failed = "the trained network's answers are no numbers"
    except (TrainingError, InvalidRequest, TooMuchMemory) as error:  # it diverges, or the method does not fit its kind
        failed = str(error)
    except NETWORK_FAILURES as error:
        log.warning("candidate %s cannot be trained", trial.number, exc_info=True)
        failed = reason_of(error)
    if failed:
        free_memory()
        return {"acc": None, "reason": failed, "seconds": time.monotonic() - started}
    # Files of before have it by this name, whatever the task is judged by.
    return {"acc": reached, "seconds": time.monotonic() - started}


class _Kept:
    """Trainings that are over, by candidate and epochs, as a file that is whole at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = read_kept(path)
        # Whatever is damaged is trained again; all else stands.
        self.values: dict[str, dict[str, Any]] = (
            {name: value for name, value in found.items() if _is_result(value)} if isinstance(found, dict) else {}
        )

    def add(self, name: str, value: dict[str, Any]) -> None:
        self.values[name] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps(self.values))


def _is_result(value: Any) -> bool:
    """Whether this is what `_distil` returns."""
    if not isinstance(value, dict) or not isinstance(value.get("seconds"), float | int):
        return False
    acc = value.get("acc")
    return isinstance(acc, float | int) or (acc is None and isinstance(value.get("reason"), str))


def _summary(
    field: Sequence[Contender], plan: Sequence[tuple[int, int]], kept: _Kept, elapsed_s: float, judge: Metric
) -> Report:
    ranked = sorted(field, key=lambda c: c.standing(judge), reverse=True)
    if plan and not ranked[0].standing(judge)[0]:  # who is alone wins untrained
        reasons = {str(value["reason"]) for value in kept.values.values() if "reason" in value}
        raise SearchError(f"none of {len(field)} contenders could be trained: {'; '.join(sorted(reasons))}")
    by_score = [contender.trial.number for contender in field]
    candidates = [
        {
            "number": contender.trial.number,
            "space": contender.trial.space,
            "architecture": dict(contender.trial.architecture),
            "score": contender.trial.score,
            "params": contender.trial.cost.params,
            "macs": contender.trial.cost.macs,
            f"selection_{judge.key}": list(contender.rounds),
            "rank": rank,
            "rank_by_score": 1 + by_score.index(contender.trial.number),
        }
        for rank, contender in enumerate(ranked, 1)
    ]
    return {
        "winner": {
            name: candidates[0][name] for name in ("number", "space", "architecture", "score", "params", "macs")
        },
        "changed": candidates[0]["rank_by_score"] != 1,
        "rank_correlation": _kendall(field, judge),
        "rounds": [{"contenders": count, "epochs": epochs} for count, epochs in plan],
        "epochs_trained": sum(count * epochs for count, epochs in plan),
        "training_s": sum(value["seconds"] for value in kept.values.values()),
        "elapsed_s": elapsed_s,
        "judged_by": judge.describe(),
        "candidates": candidates,
    }


def _kendall(field: Sequence[Contender], judge: Metric) -> float | None:
    """Kendall's τ between score and worth after the first round; None below three contenders that trained."""
    pairs = [(c.trial.score or 0.0, judge.merit(c.rounds[0])) for c in field if c.rounds and c.rounds[0] is not None]
    if len(pairs) < 3:
        return None
    from scipy.stats import kendalltau

    scores, merits = zip(*pairs, strict=True)
    tau = float(kendalltau(scores, merits).statistic)
    return tau if tau == tau else None
