"""The second phase: candidates are scored until there are enough, and the best usable one is the winner."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from archsearch import choice, domains, usable
from archsearch.data.task import Task
from archsearch.errors import SearchError
from archsearch.hardware import Limits, Ruler, fits
from archsearch.ledger.ledger import Report
from archsearch.request import SearchSpec, Start
from archsearch.search import Stop, Told, Trial, prepare, search, side_by_side, winner
from archsearch.spaces import Space
from archsearch.story.offered import offered
from archsearch.story.story import Story


def find(story: Story) -> Report:
    """Search until the request's count; returns the winner and why it won."""
    ruler, searched = measured(story)
    trials, ends, told = scored(story, ruler, searched)
    return chosen(story, ruler, searched, trials, ends, told)


def measured(story: Story) -> tuple[Ruler, tuple[Space, ...]]:
    """What candidates are measured by, and the spaces with one within the budget."""
    ledger = story.ledger
    return choice.measured_by(
        story.request,
        story.spaces,
        story.dataset.task,
        story.limits,
        profile=story.profile,
        folder=ledger.folder,
        cache=ledger.cache,
        report=ledger.report,
    )


def chosen(
    story: Story,
    ruler: Ruler,
    searched: Sequence[Space],
    trials: Sequence[Trial],
    ends: Mapping[Start, Stop],
    told: Mapping[str, int],
) -> Report:
    """The best of a search's trials that is usable, and what there is to say of the others.

    Args:
        ends: Why each race had no more.
        told: Who scored them.
    """
    ledger, task = story.ledger, story.dataset.task
    if not trials:
        raise SearchError("search.time_limit_s ran out before the first candidate was scored; raise it")
    if winner(trials) is None:
        reasons = {trial.reason for trial in trials}
        raise SearchError(
            f"none of {len(trials)} candidates could be scored: {'; '.join(map(str, sorted(reasons, key=str)))}"
        )
    measurable = choice.wants_latency(story.request) and story.profile is None
    # Where the front is timed, another winner would have it timed again.
    exact = ruler
    if not measurable:
        exact = replace(ruler, limits=replace(story.exact_limits, latency_ms=ruler.limits.latency_ms))
    found = usable.settle(
        story.request,
        ruler,
        searched,
        trials,
        measurable=measurable,
        exact=exact,
        report=ledger.report,
        warn=ledger.warn,
    )
    return {
        "candidates_scored": sum(trial.state == "scored" for trial in trials),
        "candidates_failed": sum(trial.state == "failed" for trial in trials),
        # Of the winner and the front, whose costs are counted on the networks themselves.
        "infeasible_scored": len(found["budget_check"]["beyond"]),
        "spaces": [space.name for space in searched],
        "starts": {
            race.start: {**_told(race.own(trials)), "stopped": ends[race.start]}
            for race in races(story.request.search, searched, task)
        },
        "stopped": stopped(ends),
        "exhausted": stopped(ends) == "exhausted",
        "workers": told,
        "limit": dict(ruler.limits.given()),
        "costs_of": domains.of(ruler.task).told(ruler.task),
        **found,
        "pretrained": offered(story, exact, trials),
        "device": story.device,
        "seconds": ledger.seconds("searching"),
    }


@dataclass(frozen=True)
class Race:
    """Candidates whose scores are of one kind: those that begin with noise, or with weights of their teacher's or of
    their own."""

    start: Start
    spaces: tuple[Space, ...]
    spec: SearchSpec

    def own(self, trials: Sequence[Trial]) -> list[Trial]:
        names = {space.name for space in self.spaces}
        return [trial for trial in trials if trial.space in names]


# Those whose scores are measured first.
_ORDER: tuple[Start, ...] = ("teacher", "pretrained", "scratch")
# Of several ends, what tells most of what was left unseen.
_CUT_SHORT_BY: tuple[Stop, ...] = ("time", "patience", "candidates", "exhausted")


def races(spec: SearchSpec, spaces: Sequence[Space], task: Task, known: Sequence[Trial] = ()) -> list[Race]:
    """A search for each kind of start, those with weights first; they share what the request allows.

    Args:
        known: Trials of earlier searches: of networks with weights, which are a few, so many are left.
    """
    starts = [start for start in _ORDER if any(space.start == start for space in spaces)]
    left = sum(space.cardinality(task) for space in spaces if space.start == "pretrained")
    left -= sum(trial.start == "pretrained" for trial in known)
    found = []
    for start in starts:
        own = tuple(space for space in spaces if space.start == start)
        share: dict[str, Any] = {"candidates": _candidates(spec, start, starts, left)}
        if spec.time_limit_s is not None:
            share["time_limit_s"] = spec.time_limit_s / len(starts)
        if start != "scratch":  # they are looked at in full, by this process
            share |= {"halving": None, "workers": 1}
        found.append(
            Race(start, own, spec if len(starts) == 1 and start == "scratch" else spec.model_copy(update=share))
        )
    return found


def _candidates(spec: SearchSpec, start: Start, starts: Sequence[Start], left: int) -> int:
    """A race's share of the candidates: an equal one, and of what the `left` networks with weights leave."""
    there = min(left, max(1, spec.candidates // len(starts)))
    if start == "pretrained":
        return there
    others = [each for each in starts if each != "pretrained"]
    share, more = divmod(spec.candidates - there, len(others))
    return max(1, share + (others.index(start) < more))


def stopped(ends: Mapping[Start, Stop]) -> Stop:
    """Why there are no more candidates, of all races: what cut any of them short, time first."""
    return min(ends.values(), key=_CUT_SHORT_BY.index)


def scored(
    story: Story, ruler: Ruler, searched: Sequence[Space], first: int = 0
) -> tuple[Sequence[Trial], dict[Start, Stop], dict[str, int]]:
    """The trials of earlier attempts and those that were missing, each kept as it comes; why each race has no more; and
    who scored these.

    Args:
        first: Number of the first trial of this search; those before it were made for looser limits, and are learned
            from where these limits hold them.
    """
    spec, ledger = story.request.search, story.ledger
    total = (story.whole or story).request.search.candidates
    bench = prepare(spec, story.teacher, story.dataset, device=story.device, cache=ledger.cache)
    trials, ends, told = list(ledger.trials()), dict[Start, Stop](), Told(1)
    ledger.report(_search_report(trials, total, None))
    known = within(trials[:first], ruler.limits)
    for race in races(spec, searched, ruler.task, known):
        look = story.look(race.start)
        with side_by_side(race.spec, bench, race.spaces, device=story.device) as pool:
            started, there, done = time.monotonic(), len(trials), race.own(trials[first:])
            before: dict[str, Any] = {"before": len(trials) - len(done), "known": race.own(known)}
            running = search(race.spec, bench, ruler, race.spaces, done=done, look=look, pool=pool, **before)
            while True:
                try:
                    trial = next(running)
                except StopIteration as end:
                    ends[race.start] = end.value
                    break
                trials.append(trial)
                pace = (time.monotonic() - started) / (len(trials) - there)
                ledger.add(trial, _search_report(trials, total, pace))
        told = told if pool is None else pool.told
    return trials, ends, asdict(told)


def within(trials: Sequence[Trial], limits: Limits) -> list[Trial]:
    """Those of the trials that limits hold, which may be tighter than those they were made for."""
    return [trial for trial in trials if fits(trial.cost, limits)]


def _told(trials: Sequence[Trial]) -> Report:
    """What came of one kind of start, and its best."""
    best = winner(trials)
    return {
        "candidates_scored": sum(trial.state == "scored" for trial in trials),
        "best": None if best is None else choice.describe(best),
    }


def _search_report(trials: Sequence[Trial], total: int, pace_s: float | None) -> Report:
    best = winner(trials)
    return {
        "phase": "searching",
        "scored": len(trials),
        "candidates": total,
        "progress": len(trials) / total,
        "best_score": best.score if best else None,
        "best_params": best.cost.params if best else None,
        "best_space": best.space if best else None,
        "best_architecture": dict(best.architecture) if best else None,
        "eta_s": None if pace_s is None else pace_s * (total - len(trials)),
    }
