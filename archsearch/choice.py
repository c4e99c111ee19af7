"""From scored candidates to the one that is distilled: the front, its latencies measured for real, the winner."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from archsearch import domains
from archsearch.data.task import Task
from archsearch.errors import ArchsearchError, ImpossibleBudget, InvalidRequest, SearchError
from archsearch.failures import reason_of
from archsearch.hardware import Limits, Ruler, excess, fits, nearest
from archsearch.hardware.devices import devices
from archsearch.hardware.latency import Latency, measure_latency
from archsearch.hardware.predict import Calibration, Predictor, Table, calibrate, read_predictor, time_all
from archsearch.hardware.profile import Profile
from archsearch.request import Architecture, Budget, JobRequest
from archsearch.search import Trial, front, winner
from archsearch.spaces import Space
from archsearch.whole import read_kept, write_whole

log = logging.getLogger(__name__)

Report = Callable[[dict[str, Any]], None]

# Members measured on the device before latencies of the others are predicted.
_CALIBRATED_ON = 20
# Networks with weights of which each is timed, where there are no more.
_TIMED_ALL = 64
# Candidates measured beyond the front, when nothing on it holds the limit after all.
_MORE_MEASURED = 10


def wants_latency(request: JobRequest) -> bool:
    return request.budget.latency_ms is not None or request.search.trade == "latency_ms"


def traded(request: JobRequest) -> str:
    """The cost the front is drawn against: the traded one, else a limited one, latency first."""
    if request.search.trade is not None:
        return request.search.trade
    limited = request.budget.limits
    order = ("latency_ms", "peak_activation_bytes", "size_bytes", "macs", "macs_ratio")
    first = next((name for name in order if name in limited), "params")
    return first.removesuffix("_ratio")


def timed_spaces(request: JobRequest, named: Sequence[str], task: Task, profile: Profile) -> tuple[str, ...]:
    """Those of the spaces a request means whose latency a profile tells."""
    device = request.budget.device
    profile.require(task, request.budget.batch)
    known = profile.by_space()
    elsewhere = {
        "teacher": "the teacher's own space, which is another one for every teacher",
        "pretrained": "networks with weights, of which every machine has others at hand",
    }
    if request.search.space in elsewhere:
        raise InvalidRequest(
            f"{device} cannot hold {elsewhere[request.search.space]}; set search.space to one it has: "
            f"{', '.join(known)}",
            field="budget.device",
        )
    found = tuple(name for name in named if name in known)
    # `auto` takes what there is; a space that was asked for by name has to be there.
    if found and (request.search.space == "auto" or len(found) == len(named)):
        return found
    missing = next(name for name in named if name not in known)
    raise InvalidRequest(
        f"{device} has no measurements of {missing}; set search.space to one it has ({', '.join(known)}), or measure "
        f"again with `archsearch profile --space {missing}`",
        field="budget.device",
    )


def check_device(budget: Budget) -> None:
    """Raise InvalidRequest when this machine has no such device."""
    reason = devices.get(budget.device, field="budget.device").available()
    if reason is not None:
        raise InvalidRequest(
            f"{budget.device} is not here: {reason}; measure on a machine that has it with `archsearch profile`, and "
            "give that file (to a server: POST /v1/profiles)",
            field="budget.device",
        )


def measured_by(
    request: JobRequest,
    spaces: Sequence[Space],
    task: Task,
    limits: Limits,
    *,
    profile: Profile | None,
    folder: Path,
    cache: Path | None,
    report: Report,
) -> tuple[Ruler, tuple[Space, ...]]:
    """The ruler of a job and the spaces it searches; calibrates predictors of latency where latency matters.

    Raises:
        ImpossibleBudget: No member of any space is predicted to hold the latency.
    """
    budget = request.budget
    ruler = Ruler(task, limits, budget.size_precision, budget.batch, trade=request.search.trade)
    if wants_latency(request):

        def fitted() -> dict[str, Predictor | Table]:
            if profile is not None:
                return dict(profile.predictors(task, budget.batch))
            return _calibrated(request, spaces, ruler, cache, report)

        ruler = replace(ruler, predictors=_fitted_once(folder / "predictors.json", fitted))
    return ruler, require_fast_enough(ruler, spaces, budget)


def _fitted_once(kept: Path, fitted: Callable[[], dict[str, Predictor | Table]]) -> dict[str, Predictor | Table]:
    """A predictor for each space, kept in the job's folder.

    Whoever goes on with the job, on another machine or without the cache, measures by the same ones, and proposes what
    would have been proposed.
    """
    predictors = _kept_predictors(kept)
    if not predictors:
        predictors = fitted()
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, json.dumps({name: found.to_json() for name, found in predictors.items()}))
    return predictors


def _calibrated(
    request: JobRequest, spaces: Sequence[Space], ruler: Ruler, cache: Path | None, report: Report
) -> dict[str, Predictor | Table]:
    """A predictor for each space from members that are timed here."""
    predictors: dict[str, Predictor | Table] = {}
    for done, space in enumerate(spaces):

        def seen(timed: int, total: int, done: int = done, space: Space = space) -> None:
            share = (done + timed / total) / len(spaces)
            report({"phase": "validating", "progress": share, "timing": space.name, "device": request.budget.device})

        try:
            predictors[space.name] = _table(request, space, ruler, cache, seen) or (
                _calibrate(request, space, ruler, cache, seen).predictor
            )
        except (InvalidRequest, ImpossibleBudget):
            # With several spaces, one that is too small within the budget to be learned from is left out.
            if done == len(spaces) - 1 and not predictors:
                raise
    return predictors


def _kept_predictors(path: Path) -> dict[str, Predictor | Table]:
    """Those of an earlier attempt; none where the file is damaged, so that they are made again."""
    try:
        return {name: read_predictor(text) for name, text in (read_kept(path) or {}).items()}
    except (AttributeError, InvalidRequest) as error:
        log.warning("%s holds something else and is made again: %s", path, error)
        return {}


def _table(
    request: JobRequest, space: Space, ruler: Ruler, cache: Path | None, seen: Callable[[int, int], None]
) -> Table | None:
    """Latencies of networks with weights, each of them timed: they are few, and alike in nothing. None where these are
    many, or the space is another."""
    budget, task = request.budget, ruler.task
    if space.start != "pretrained":
        return None
    countable = replace(ruler, limits=replace(ruler.limits, latency_ms=None), trade=None)
    every = [{parameter.name: value} for parameter in space.parameters(task) for value in parameter.values]
    members = [one for one in every if fits(countable.estimate(space, one), countable.limits)]
    if not 0 < len(members) <= _TIMED_ALL:
        return None
    return time_all(space, task, members, budget.device, budget.batch, cache=cache, report=seen)


def _calibrate(
    request: JobRequest, space: Space, ruler: Ruler, cache: Path | None, seen: Callable[[int, int], None]
) -> Calibration:
    """A predictor from members that hold every limit that can be counted."""
    budget = request.budget
    countable = replace(ruler, limits=replace(ruler.limits, latency_ms=None), trade=None)

    def feasible(architecture: Architecture) -> bool:
        return fits(countable.estimate(space, architecture), countable.limits)

    return calibrate(
        space,
        ruler.task,
        budget.device,
        budget.batch,
        n=_CALIBRATED_ON,
        cache=cache,
        feasible=feasible,
        report=seen,
    )


def require_fast_enough(ruler: Ruler, spaces: Sequence[Space], budget: Budget) -> tuple[Space, ...]:
    """The spaces with a member predicted to hold every limit; raises ImpossibleBudget with the nearest one."""
    timed = [space for space in spaces if not ruler.predictors or space.name in ruler.predictors]
    found = {space.name: nearest(space, ruler.task, ruler.estimate, ruler.limits)[1] for space in timed}
    able = tuple(space for space in timed if fits(found[space.name], ruler.limits))
    if able:
        return able
    name, cost = min(found.items(), key=lambda item: excess(item[1], ruler.limits))
    raise ImpossibleBudget(
        f"{budget.describe()} is beyond every network of {', '.join(found)}: the nearest, of {name}, is predicted to "
        f"take {cost.latency_ms:.3g} ms ({cost.params:,} parameters); raise the budget or choose another device",
        field="budget.latency_ms",
    )


def settle(
    request: JobRequest,
    ruler: Ruler,
    spaces: Sequence[Space],
    trials: Sequence[Trial],
    *,
    measurable: bool,
    report: Report,
) -> dict[str, Any]:
    """The front and the winner, as plain JSON.

    Where latency matters and the device is here, every member of the front is built and timed before the winner is
    chosen, and only one that holds the limit as measured can win.

    Raises:
        SearchError: No candidate holds the latency as measured.
    """
    trade = traded(request)
    contenders, beyond, timed = list(trials), list[Trial](), dict[int, Latency]()
    if measurable:
        timed = _time_front(request, ruler, spaces, trials, report)
        tried = _as_timed(trials, timed)
        contenders = [trial for trial in tried if fits(trial.cost, ruler.limits)]
        beyond = [trial for trial in tried if not fits(trial.cost, ruler.limits)]
        if not contenders:
            fastest = min(latency.median_ms for latency in timed.values())
            raise SearchError(
                f"none of the {len(timed)} candidates timed on {request.budget.device} holds "
                f"{ruler.limits.latency_ms:g} ms; the fastest took {fastest:.3g} ms: raise budget.latency_ms"
            )
    best = winner(contenders, request.search.choose, trade)
    if best is None:
        raise SearchError("no candidate could be scored")
    by_number = {trial.number: trial for trial in trials}

    def said(trial: Trial) -> dict[str, Any]:
        """As predicted, and as timed beside it."""
        return describe(by_number[trial.number], timed.get(trial.number))

    return {
        "traded": trade,
        "front": [said(trial) for trial in front(contenders, trade)],
        # Timed, and slower than the budget allows.
        "beyond": [said(trial) for trial in beyond],
        "winner": {**said(best), "votes": dict(best.votes), "proxies": dict(best.proxies)},
    }


def _time_front(
    request: JobRequest, ruler: Ruler, spaces: Sequence[Space], trials: Sequence[Trial], report: Report
) -> dict[int, Latency]:
    """Latencies of the front's members by number, and, where none holds the limit, of the best others that should."""
    by_name, task = {space.name: space for space in spaces}, ruler.task

    timed: dict[int, Latency] = {}
    failed: dict[int, str] = {}

    def time_them(members: Sequence[Trial]) -> None:
        shape = domains.of(task).shape(task)
        for member in members:
            try:
                model = by_name[member.space].build(member.architecture, task)
                timed[member.number] = measure_latency(model, shape, request.budget.device, batch=request.budget.batch)
            except ArchsearchError:
                raise
            except Exception as error:  # exporters and runtimes fail in ways of their own, on one network of many
                log.warning("candidate %s cannot be timed: %s", member.number, error, exc_info=True)
                failed[member.number] = reason_of(error)
            report({"phase": "searching", "progress": 1.0, "timed": len(timed), "of": len(members)})

    time_them(front(trials, traded(request)))
    if not timed:  # the best of the others, as if none of these had been there
        time_them(front([trial for trial in trials if trial.number not in failed], traded(request)))
    if not timed:
        reasons = "; ".join(sorted(set(failed.values())))
        raise SearchError(f"none of {len(failed)} candidates could be timed on {request.budget.device}: {reasons}")
    tried = _as_timed(trials, timed)
    if not any(fits(trial.cost, ruler.limits) for trial in tried):
        time_them([trial for trial in _next_best(trials, tried, ruler.limits) if trial.number not in failed])
    return timed


def _as_timed(trials: Sequence[Trial], timed: Mapping[int, Latency]) -> list[Trial]:
    """Those that were timed, at the latency they were timed at."""
    return [
        replace(trial, cost=replace(trial.cost, latency_ms=timed[trial.number].median_ms))
        for trial in trials
        if trial.number in timed
    ]


def _next_best(trials: Sequence[Trial], timed: Sequence[Trial], limits: Limits) -> list[Trial]:
    """The best-scored others that should hold the limit, if predictions err as they did for those timed."""
    predicted = {trial.number: trial.cost.latency_ms or 0.0 for trial in trials}
    slower = min((trial.cost.latency_ms or 0.0) / max(predicted[trial.number], 1e-9) for trial in timed)
    known = {trial.number for trial in timed}
    others = [
        trial
        for trial in trials
        if trial.score is not None
        and trial.number not in known
        and fits(replace(trial.cost, latency_ms=slower * predicted[trial.number]), limits)
    ]
    return sorted(others, key=lambda trial: (-(trial.score or 0.0), trial.number))[:_MORE_MEASURED]


def describe(trial: Trial, latency: Latency | None = None) -> dict[str, Any]:
    """A candidate for people: what it is, costs and scores; `measured` where its latency was timed."""
    cost = trial.cost
    found: dict[str, Any] = {
        "number": trial.number,
        "space": trial.space,
        "architecture": dict(trial.architecture),
        "score": trial.score,
        "params": cost.params,
        "macs": cost.macs,
        "size_bytes": cost.size_bytes,
        "peak_activation_bytes": cost.peak_activation_bytes,
        "latency_ms": cost.latency_ms,
    }
    if latency is not None:
        found["measured"] = timed(latency)
    return found


def timed(latency: Latency) -> dict[str, float]:
    """A latency as results have it: the median and both quartiles."""
    return {
        "latency_ms": latency.median_ms,
        "low_ms": latency.low_ms,
        "high_ms": latency.high_ms,
        "repeats": latency.repeats,
    }
