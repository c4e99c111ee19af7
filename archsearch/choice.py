"""From scored candidates to the one that is distilled: the front, its latencies measured for real, the winner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from archsearch.data.task import Task
from archsearch.errors import ImpossibleBudget, InvalidRequest, SearchError
from archsearch.hardware import Limits, Predictor, Ruler, excess, fits, nearest
from archsearch.hardware.devices import devices
from archsearch.hardware.latency import Latency, measure_latency
from archsearch.hardware.predict import Calibration, calibrate
from archsearch.hardware.profile import Profile
from archsearch.request import Architecture, Budget, JobRequest
from archsearch.search import Trial, front, winner
from archsearch.spaces import Space

Report = Callable[[dict[str, Any]], None]

# Members measured on the device before latencies of the others are predicted.
_CALIBRATED_ON = 20
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


def timed_spaces(
    request: JobRequest, spaces: Sequence[Space], task: Task, profile: Profile | None
) -> tuple[Space, ...]:
    """Those of `spaces` whose latency a profile tells; all of them where the device itself can be asked."""
    if profile is None:
        return tuple(spaces)
    device = request.budget.device
    known = profile.predictors(task, request.budget.batch)
    found = tuple(space for space in spaces if space.name in known)
    # `auto` takes what there is; a space that was asked for by name has to be there.
    if found and (request.search.space == "auto" or len(found) == len(spaces)):
        return found
    missing = next(space.name for space in spaces if space.name not in known)
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


def make_ruler(
    request: JobRequest,
    spaces: Sequence[Space],
    task: Task,
    limits: Limits,
    *,
    profile: Profile | None,
    cache: Path | None,
    report: Report,
) -> Ruler:
    """What the candidates are measured by; calibrates predictors of latency where latency matters.

    Raises:
        ImpossibleBudget: No member of any space is predicted to hold the latency.
    """
    budget, trade = request.budget, request.search.trade
    ruler = Ruler(task, limits, budget.size_precision, budget.batch, trade=trade)
    if not wants_latency(request):
        return ruler
    if profile is not None:
        return replace(ruler, predictors=profile.predictors(task, budget.batch))
    predictors: dict[str, Predictor] = {}
    for done, space in enumerate(spaces):

        def seen(timed: int, total: int, done: int = done, space: Space = space) -> None:
            share = (done + timed / total) / len(spaces)
            report({"phase": "validating", "progress": share, "timing": space.name, "device": budget.device})

        try:
            predictors[space.name] = _calibrate(request, space, ruler, cache, seen).predictor
        except (InvalidRequest, ImpossibleBudget):
            # With several spaces, one that is too small within the budget to be learned from is left out.
            if len(spaces) == 1 or (done == len(spaces) - 1 and not predictors):
                raise
    return replace(ruler, predictors=predictors)


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
    members = front(trials, trade)
    timed: dict[int, Latency] = {}
    by_name = {space.name: space for space in spaces}

    def time_it(trial: Trial) -> Trial:
        """The trial with its latency as measured."""
        if trial.number not in timed:
            budget, task = request.budget, ruler.task
            model = by_name[trial.space].build(trial.architecture, task)
            chw = (task.in_chans, task.height, task.width)
            timed[trial.number] = measure_latency(model, chw, budget.device, batch=budget.batch)
        return replace(trial, cost=replace(trial.cost, latency_ms=timed[trial.number].median_ms))

    contenders: list[Trial] = list(trials)
    if measurable:
        contenders = []
        for done, member in enumerate(members):
            contenders.append(time_it(member))
            report({"phase": "searching", "progress": 1.0, "timed": done + 1, "of": len(members)})
        within = [trial for trial in contenders if fits(trial.cost, ruler.limits)]
        # A prediction that was a little too hopeful can leave the whole front beyond the limit.
        others = sorted(
            (t for t in trials if t.score is not None and t.number not in timed), key=lambda t: t.cost.latency_ms or 0.0
        )
        for trial in others[:_MORE_MEASURED] if not within else []:
            if fits((slow := time_it(trial)).cost, ruler.limits):
                within.append(slow)
        if not within:
            fastest = min(latency.median_ms for latency in timed.values())
            raise SearchError(
                f"none of the {len(timed)} candidates timed on {request.budget.device} holds "
                f"{ruler.limits.latency_ms:g} ms; the fastest took {fastest:.3g} ms: raise budget.latency_ms"
            )
        contenders = within
    best = winner(contenders, request.search.choose, trade)
    if best is None:
        raise SearchError("no candidate could be scored")
    return {
        "traded": trade,
        "front": [describe(trial, timed.get(trial.number)) for trial in members],
        "winner": {
            **describe(best, timed.get(best.number)),
            "votes": dict(best.votes),
            "proxies": dict(best.proxies),
        },
    }


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
        found["measured"] = {
            "latency_ms": latency.median_ms,
            "low_ms": latency.low_ms,
            "high_ms": latency.high_ms,
            "repeats": latency.repeats,
        }
    return found
