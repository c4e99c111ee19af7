"""The story of a job, top to bottom: the one place that says which phase follows which, for service and library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archsearch.ledger.ledger import Once, Report
from archsearch.request import JobRequest
from archsearch.story.distil import distil
from archsearch.story.find import find
from archsearch.story.finish import finish
from archsearch.story.several import several
from archsearch.story.story import Story
from archsearch.story.validate import settled, validate
from archsearch.story.verify import verify

# Where in the whole a phase begins and ends: distillation is nearly all of the time.
_SPANS = {
    "validating": (0.0, 0.02),
    "searching": (0.02, 0.3),
    "verifying": (0.3, 0.5),
    "distilling": (0.3, 0.98),
    "exporting": (0.98, 1.0),
}


def tell(story: Story, once: Once) -> Report:
    """Do what a job does, from wherever it was left; returns its result.

    The names of phases and what each of them returns are kept by jobs under way: they stay, and in this order.
    """
    story.ledger.expect(spans(story.request))
    checked = once("validate", validate, story)
    story = settled(story, checked)
    story.ledger.expect(spans(story.request))
    request, result = story.request, {"teacher": checked, "chosen": dict(story.chosen)}
    if request.how_many > 1:
        return several(story, once, result)
    chosen: Mapping[str, Any] = request.student.model_dump() if request.student else {}
    if request.kind != "distill":
        result |= _told_apart(once("search", find, story))
        chosen = result["search"]["winner"]
    if request.verification is not None:
        result["verify"] = once("verify", verify, story, result["search"])
        chosen = result["verify"]["winner"]
    if request.kind != "search":
        result["student"] = _train(story, chosen, once)
    return once("export", finish, story, chosen, result)


def _told_apart(found: Report) -> Report:
    """What a search found, and beside it the network with weights that somebody would take instead; what was kept by
    earlier versions says nothing of that."""
    aside = {"pretrained": found["pretrained"]} if "pretrained" in found else {}
    return {"search": {name: value for name, value in found.items() if name != "pretrained"}, **aside}


def _train(story: Story, chosen: Mapping[str, Any], once: Once) -> Report:
    """The student, trained anew where an earlier attempt's is gone: of a job that failed long ago, and made room."""
    trained = once("distill", distil, story, chosen)
    if story.ledger.path(trained["folder"]).is_dir():
        return trained
    return once("distill anew", distil, story, chosen)


def spans(request: JobRequest) -> dict[str, tuple[float, float]]:
    """Where in the whole of such a job each of its phases begins and ends (0 to 1)."""
    found, verified = dict(_SPANS), request.verification is not None
    if request.kind == "distill":
        found["distilling"] = (0.02, 0.98)
    if verified:
        found["distilling"] = (0.5, 0.98)
    if request.kind == "search":
        last = "verifying" if verified else "searching"
        found[last] = (found[last][0], 0.98)
    return found
