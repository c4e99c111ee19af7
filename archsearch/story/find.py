"""The second phase: candidates are scored until there are enough, and the best usable one is the winner."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from archsearch import choice, domains, usable
from archsearch.errors import SearchError
from archsearch.hardware import Ruler
from archsearch.ledger.ledger import Report
from archsearch.search import Told, Trial, prepare, search, side_by_side, winner
from archsearch.spaces import Space
from archsearch.story.story import Story


def find(story: Story) -> Report:
    """Search until the request's count; returns the winner and why it won."""
    ledger, task = story.ledger, story.dataset.task
    ruler, searched = choice.measured_by(
        story.request,
        story.spaces,
        task,
        story.limits,
        profile=story.profile,
        folder=ledger.folder,
        cache=ledger.cache,
        report=ledger.report,
    )
    trials, stop, told = _scored(story, ruler, searched)
    if not trials:
        raise SearchError("search.time_limit_s ran out before the first candidate was scored; raise it")
    if winner(trials) is None:
        reasons = {trial.reason for trial in trials}
        raise SearchError(
            f"none of {len(trials)} candidates could be scored: {'; '.join(map(str, sorted(reasons, key=str)))}"
        )
    measurable = choice.wants_latency(story.request) and story.profile is None
    found = usable.settle(
        story.request, ruler, searched, trials, measurable=measurable, report=ledger.report, warn=ledger.warn
    )
    return {
        "candidates_scored": sum(trial.state == "scored" for trial in trials),
        "candidates_failed": sum(trial.state == "failed" for trial in trials),
        # Of the winner and the front, whose costs are counted on the networks themselves.
        "infeasible_scored": len(found["budget_check"]["beyond"]),
        "spaces": [space.name for space in searched],
        "stopped": stop,
        "exhausted": stop == "exhausted",
        "workers": told,
        "limit": dict(ruler.limits.given()),
        "costs_of": domains.of(ruler.task).told(ruler.task),
        **found,
        "device": story.device,
        "seconds": ledger.seconds("searching"),
    }


def _scored(story: Story, ruler: Ruler, searched: Sequence[Space]) -> tuple[Sequence[Trial], str, dict[str, int]]:
    """The trials of earlier attempts and those that were missing, each kept as it comes; why there are no more; and who
    scored these."""
    spec, ledger = story.request.search, story.ledger
    bench = prepare(spec, story.teacher, story.dataset, device=story.device, cache=ledger.cache)
    trials = list(ledger.trials())
    ledger.report(_search_report(trials, spec.candidates, None))
    with side_by_side(spec, bench, searched, device=story.device) as pool:
        started, first = time.monotonic(), len(trials)
        running = search(spec, bench, ruler, searched, done=list(trials), pool=pool)
        while True:
            try:
                trial = next(running)
            except StopIteration as end:
                return trials, end.value, asdict(Told(1) if pool is None else pool.told)
            trials.append(trial)
            pace = (time.monotonic() - started) / (len(trials) - first)
            ledger.add(trial, _search_report(trials, spec.candidates, pace))


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
