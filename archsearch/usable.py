"""The winner has to be a network: one that is built, saved and loaded again, and within the budget as torch counts it.

The search prices candidates in closed form. Here the few that matter are counted on the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from archsearch import choice, domains, verify
from archsearch.errors import SearchError
from archsearch.failures import NETWORK_FAILURES, reason_of
from archsearch.hardware import Limits, Ruler, measure_exactly
from archsearch.request import Architecture, JobRequest
from archsearch.search import Trial
from archsearch.spaces import Cost, Space

MORE_ACTIVATIONS = "more_activations_than_teacher"
# Members of the front whose costs are counted beside the winner's.
_COUNTED = 32


def settle(
    request: JobRequest,
    ruler: Ruler,
    spaces: Sequence[Space],
    trials: Sequence[Trial],
    *,
    measurable: bool,
    exact: Ruler | None = None,
    report: choice.Report,
    warn: Callable[[str, str], None],
) -> dict[str, Any]:
    """What `choice.settle` finds, with the best candidate that is usable as the winner.

    Beside it `budget_check`: the exact costs of the winner and the front, and what of them is beyond the budget.

    Args:
        exact: With the limits that networks are held to where they are counted exactly, if those are more.
        warn: Told of every candidate that would have won and is of no use.

    Raises:
        SearchError: None is usable, or none holds the latency as measured.
    """
    by_name, left, unusable = {space.name: space for space in spaces}, list(trials), dict[int, str]()
    exact = exact or ruler
    while True:
        found = choice.settle(request, ruler, spaces, left, measurable=measurable, report=report)
        won = found["winner"]
        report({"phase": "searching"})
        reason = why_not(by_name[won["space"]], won["architecture"], exact)
        if reason is None:
            break
        unusable[won["number"]] = reason
        left = [trial for trial in left if trial.number not in unusable]
        told = f"candidate {won['number']} ({won['space']}) would have won, but {reason}"
        if not any(trial.state == "scored" for trial in left):
            if exact is not ruler:  # that is more than the budget itself asks
                warn(
                    MORE_ACTIVATIONS,
                    f"{told}; nothing else is left, and the best is taken without the teacher's activations as a limit",
                )
                return settle(request, ruler, spaces, trials, measurable=measurable, report=report, warn=warn)
            raise SearchError(f"{told}, and there is no other one")
        warn("winner_unusable", f"{told}; the next best takes its place")
    checked = _budget_check(found, by_name, exact)
    return {**found, "budget_check": checked, "unusable": {str(number): why for number, why in unusable.items()}}


def contenders(
    trials: Sequence[Trial],
    count: int,
    spaces: Mapping[str, Space],
    ruler: Ruler,
    unusable: Mapping[str, str],
    *,
    report: choice.Report,
    warn: Callable[[str, str], None],
) -> tuple[list[Trial], dict[str, str]]:
    """What `verify.contenders` chooses of the candidates that are usable; and why others are not, by number.

    Args:
        unusable: What the search found of no use already, as `settle` returns it.
        warn: Told of every candidate that would have been a contender and is of no use.

    Raises:
        SearchError: No candidate is usable.
    """
    unusable, usable = dict(unusable), set[int]()
    while True:
        left = [trial for trial in trials if str(trial.number) not in unusable]
        chosen = verify.contenders(left, count)
        asked = [trial for trial in chosen if trial.number not in usable]
        if not asked:
            break
        for trial in asked:
            report({"phase": "verifying"})
            reason = why_not(spaces[trial.space], trial.architecture, ruler)
            if reason is None:
                usable.add(trial.number)
                continue
            unusable[str(trial.number)] = reason
            told = f"candidate {trial.number} ({trial.space}) would have been distilled briefly, but {reason}"
            warn("contender_unusable", f"{told}; the next best takes its place")
    if not chosen:
        raise SearchError(f"no candidate can be the student: {'; '.join(sorted(set(unusable.values())))}")
    return chosen, unusable


def exact_costs(space: Space, architecture: Architecture, ruler: Ruler) -> dict[str, float]:
    """What torch counts of a network, by the names of costs; latency is left out."""
    return {name: v for name, v in asdict(measure_exactly(space, architecture, ruler)).items() if v is not None}


def why_not(space: Space, architecture: Architecture, ruler: Ruler) -> str | None:
    """Why a candidate cannot be the student; None where it can."""
    task = ruler.task
    try:
        beyond = _beyond(measure_exactly(space, architecture, ruler), ruler.limits)
        with TemporaryDirectory() as folder:
            domains.of(task).check_saved(space.build(architecture, task), task, Path(folder))
    except NETWORK_FAILURES as error:
        return f"it cannot be built, saved and loaded: {reason_of(error)}"
    if not beyond:
        return None
    return "it has " + " and ".join(f"{name} {value:,} of {limit:,}" for name, (value, limit) in beyond.items())


def _budget_check(found: Mapping[str, Any], spaces: Mapping[str, Space], ruler: Ruler) -> dict[str, Any]:
    """Exact costs by candidate number, and those that break a limit. Latency is not counted: the front is timed."""
    members = {member["number"]: member for member in (found["winner"], *found["front"][:_COUNTED])}
    costs: dict[int, Cost] = {}
    for number, member in members.items():
        try:
            costs[number] = measure_exactly(spaces[member["space"]], member["architecture"], ruler)
        except NETWORK_FAILURES:  # never the winner, which was built; of the others nothing is asked
            continue
    exact = {number: {k: v for k, v in asdict(cost).items() if v is not None} for number, cost in costs.items()}
    return {
        "winner": exact[found["winner"]["number"]],
        "counted": len(costs),
        "beyond": [number for number, cost in costs.items() if _beyond(cost, ruler.limits)],
    }


def _beyond(cost: Cost, limits: Limits) -> dict[str, tuple[float, float]]:
    """Value and limit of every cost that is counted and breaks its limit."""
    values = {name: (getattr(cost, name), limit) for name, limit in limits.given().items()}
    return {name: (value, limit) for name, (value, limit) in values.items() if value is not None and value > limit}
