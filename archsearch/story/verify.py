"""Where several families are left: the best candidates are distilled briefly, and the winner is one of them."""

from __future__ import annotations

from archsearch import choice, usable
from archsearch.hardware import Ruler
from archsearch.ledger.ledger import Report
from archsearch.story.find import within
from archsearch.story.story import Story
from archsearch.verify import verify as distil_briefly


def verify(story: Story, found: Report) -> Report:
    """Distil the best of what `find` found briefly; returns the winner among them and how it was told."""
    request, ledger, spec, task = story.request, story.ledger, story.request.verification, story.dataset.task
    assert spec is not None
    trials, spaces = ledger.trials(), {space.name: space for space in story.spaces}
    if story.whole is not None:  # others were found for looser limits
        trials = within(trials, story.limits)
    if choice.wants_latency(request):
        # Those that were timed and hold the limit; the others are promises.
        timely = {member["number"] for member in found["front"]}
        trials = [trial for trial in trials if trial.number in timely]
    budget = request.budget
    told = {warning["code"] for warning in ledger.warnings()}
    held = not choice.wants_latency(request) and usable.MORE_ACTIVATIONS not in told  # as it was in the search
    limits = story.exact_limits if held else story.limits
    ruler = Ruler(task, limits, budget.size_precision, budget.batch, trade=request.search.trade)
    before = found.get("unusable", {})
    contenders, unusable = usable.contenders(
        trials,
        spec.candidates,
        spaces,
        ruler,
        before,
        report=ledger.report,
        warn=ledger.warn,
    )
    verified = distil_briefly(
        spec,
        request.training,
        contenders,
        spaces,
        story.teacher,
        story.dataset,
        folder=ledger.folder / "verify",
        cache=ledger.cache,
        report=ledger.report,
    )
    won = verified["winner"]
    costs = usable.exact_costs(spaces[won["space"]], won["architecture"], ruler)
    return {**verified, "budget_check": {"winner": costs}, "unusable": unusable}
