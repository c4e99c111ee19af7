"""What students begin with where a request leaves that open, and why."""

from __future__ import annotations

from archsearch.request import JobRequest
from archsearch.spaces.choose import AUTO
from archsearch.story.story import Story


def why_starts(story: Story, request: JobRequest) -> str:
    """Which ways to begin compete, why the others do not, and what is to decide between them; nothing where the request
    says itself what students begin with.

    Args:
        request: As it was settled.
    """
    if request.kind == "distill" or request.distill.init != "auto" or request.search.space != AUTO:
        return ""
    left, there = story.plan.left, {space.start for space in story.spaces}
    counted = 0 if story.weighted is None else len(story.weighted.members)
    named = {
        "teacher": "cut out of the teacher",
        "pretrained": f"{counted} network{'s' * (counted != 1)} with weights",
        "scratch": "from noise",
    }
    found = [told for start, told in named.items() if start in there]
    missing = []
    if "teacher" not in there and "own space" in left:
        missing.append(f"none is cut out of the teacher: {story.uncut or 'none of its kind is within the budget'}")
    if "pretrained" not in there and "pretrained" in left:
        missing.append(f"no network with weights is {'within the budget' if counted else 'at hand'}")
    decides = _decides(request) if len(found) > 1 else ""
    return "; ".join([" and ".join(found) + decides, *missing])


def _decides(request: JobRequest) -> str:
    if request.verification is not None:
        return ", a search each, and the best of them distilled briefly to tell"
    return ", a search each; what begins with weights is measured, and taken before what is guessed"
