"""The first phase: everything that can be wrong is looked at, and what the request leaves open is settled."""

from __future__ import annotations

from dataclasses import replace

from archsearch import choice, defaults
from archsearch.distill.amount import chosen
from archsearch.distill.room import require_room_for_batch
from archsearch.distill.together import check_machine
from archsearch.ledger.ledger import Report
from archsearch.request import JobRequest
from archsearch.search import require_room_for
from archsearch.story.checks import check_request
from archsearch.story.story import Story, alive
from archsearch.teachers import check_teacher


def validate(story: Story) -> Report:
    """Check everything that can be wrong before anything is spent; returns what the teacher turned out to be, and under
    `settled` the request with nothing left open."""
    story.ledger.report({"phase": "validating"})
    for note in story.dataset.notes:
        story.ledger.warn(note.code, note.detail)
    check_request(story.request, story.dataset)
    if defaults.trains(story.request):
        check_machine(story.request.distill)
    checked = check_teacher(story.teacher, story.dataset, report=alive(story.ledger, "validating"))
    if story.request.kind != "distill":
        images = defaults.scored_on(story.request, len(story.dataset.train))
        require_room_for(images, story.teacher, story.dataset.task)
    if defaults.trains(story.request):
        size = chosen(story.request.distill, len(story.dataset.train)).spec.batch_size
        require_room_for_batch(size or 0, story.dataset.task)
    for note in (*story.dataset.notes, *story.teacher.notes, *checked.notes):
        story.ledger.warn(note.code, note.detail)
    if story.request.kind == "distill":
        named = story.request.student
        if named is not None and named.space is not None and named.architecture is not None:
            student = story.student(named.space, named.architecture)
            student.space.check(student.architecture, story.dataset.task)
    else:
        _ = story.spaces  # an impossible budget is refused here
        if choice.wants_latency(story.request) and story.profile is None:
            choice.check_device(story.request.budget)
    cost = story.teacher_cost
    return {
        "name": story.teacher.name,
        "sha256": story.teacher.sha256,
        **{f"selection_{key}": value for key, value in checked.scores.items()},
        "params": cost.params,
        "macs": cost.macs,
        "settled": _settle(story),
    }


def settled(story: Story, checked: Report) -> Story:
    """The story with its request as `validate` settled it, which is taken out of what that returned.

    What was kept before requests left anything open says nothing of it.
    """
    found = checked.pop("settled", None) or _settle(story)
    known = replace(story, request=JobRequest.model_validate(found["request"]), chosen=found["chosen"])
    # These took time to tell, and do not depend on it.
    for name in {"opened", "teacher_cost", "spaces"} & story.__dict__.keys():
        known.__dict__[name] = story.__dict__[name]
    return known


def _settle(story: Story) -> Report:
    searched = () if story.request.kind == "distill" else story.spaces
    found = defaults.settle(story.request, len(story.dataset.train), [space.name for space in searched])
    return {"request": found.request.model_dump(mode="json"), "chosen": dict(found.why)}
