"""The network with weights somebody would take instead: whether one meets the budget already, beside whatever wins."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from archsearch import choice, domains, usable
from archsearch.errors import ArchsearchError
from archsearch.failures import NETWORK_FAILURES, reason_of
from archsearch.hardware import Ruler, fits
from archsearch.hardware.latency import Latency, measure_latency
from archsearch.ledger.ledger import Report
from archsearch.pretrained import Shelf
from archsearch.search import Bench, Trial, look_along
from archsearch.spaces.choose import PRETRAINED
from archsearch.story.story import Story

log = logging.getLogger(__name__)

# Networks that are looked at where the search itself looks at none: the costliest within the budget.
_LOOKED_AT = 16
# Of the best, those that are built, and timed where latency matters, until one holds every limit.
_TRIED = 8


def offered(story: Story, exact: Ruler, trials: Sequence[Trial]) -> Report:
    """The best network with weights within the budget, by what it knows of the teacher before it is trained at all.

    Args:
        exact: With the limits that networks are held to where they are counted exactly.
        trials: Of the search; where it looked at networks with weights, these are they.

    Returns:
        `best`, or null and `why`; `networks` are all that were at hand, as an architecture counts in them.
    """
    if story.dataset.task.domain != "image_classification":
        return _none(f"networks with weights are of images, not of {domains.of(story.dataset.task).examples}")
    shelf = story.shelf
    if shelf is None:
        return _none("no network with weights was at hand")
    told = {"networks": [member.stored.label for member in shelf.members], "left_out": dict(shelf.left_out)}
    # Latency is timed, of those that count, and not predicted.
    countable = replace(exact, limits=replace(exact.limits, latency_ms=None), predictors={})
    looked_at = [trial for trial in trials if trial.space == PRETRAINED] or _look(story, shelf, countable)
    ranked = sorted((t for t in looked_at if t.score is not None), key=lambda t: (-(t.score or 0.0), t.number))
    if not ranked:
        return {**_none(_why(shelf, looked_at)), **told}
    for trial in ranked[:_TRIED]:
        report = _held(story, shelf, trial, countable, exact.limits.latency_ms)
        if report is not None:
            return {"best": report, "why": "", **told}
    return {**_none(f"none of the {len(ranked[:_TRIED])} best holds the budget once it is built"), **told}


def _none(why: str) -> Report:
    return {"best": None, "why": why, "networks": [], "left_out": {}}


def _why(shelf: Shelf, looked_at: Sequence[Trial]) -> str:
    if not looked_at:
        return f"none of {len(shelf.members)} at hand is within the budget"
    return f"none of {len(looked_at)} within the budget could be looked at: {looked_at[0].reason}"


def _look(story: Story, shelf: Shelf, ruler: Ruler) -> list[Trial]:
    """Candidates of networks that no search has looked at."""
    space, look = shelf.space(), look_along(shelf)
    every = [{parameter.name: value} for parameter in space.parameters(ruler.task) for value in parameter.values]
    within = [one for one in every if fits(ruler.estimate(space, one), ruler.limits)]
    within.sort(key=lambda one: -ruler.estimate(space, one).macs)
    found = []
    for number, one in enumerate(within[:_LOOKED_AT]):
        story.ledger.report({"phase": "searching"})
        found.append(look(story.request.search, space, Bench(ruler.task, ()), one, ruler, number=number))
    return found


def _held(story: Story, shelf: Shelf, trial: Trial, ruler: Ruler, most_ms: float | None) -> Report | None:
    """A network as people are told of it; None where it cannot be the student, or is slower than the budget allows."""
    story.ledger.report({"phase": "searching"})
    if usable.why_not(shelf.space(), trial.architecture, ruler) is not None:
        return None
    latency = None
    if choice.wants_latency(story.request) and story.profile is None:
        latency = _timed(story, shelf, trial)
        if latency is None or (most_ms is not None and latency.median_ms > most_ms):
            return None
    member = shelf.member(trial.architecture)
    return {
        "network": member.stored.label,
        "licence": member.facts.licence,
        **choice.describe(trial, latency),
        "proxies": dict(trial.proxies),
    }


def _timed(story: Story, shelf: Shelf, trial: Trial) -> Latency | None:
    """Its latency on the budget's device; None where it cannot be timed there."""
    budget, task = story.request.budget, story.dataset.task
    try:
        model = shelf.space().build(trial.architecture, task)
        return measure_latency(model, domains.of(task).shape(task), budget.device, batch=budget.batch)
    except ArchsearchError as error:
        reason = error.detail
    except NETWORK_FAILURES as error:
        reason = reason_of(error)
    log.warning("%s cannot be timed: %s", shelf.member(trial.architecture).stored.label, reason)
    return None
