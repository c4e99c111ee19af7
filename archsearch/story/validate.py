"""The first phase: what the plan leaves to whoever has the teacher at hand, before anything is spent."""

from __future__ import annotations

from dataclasses import replace

from archsearch import choice, defaults, domains
from archsearch.distill.amount import amount
from archsearch.distill.pool import check_pool
from archsearch.distill.room import require_room_for_batch
from archsearch.distill.together import check_machine
from archsearch.ledger.ledger import Report
from archsearch.request import JobRequest
from archsearch.search import check_search, require_room_for
from archsearch.story.starts import why_starts
from archsearch.story.story import Story, alive
from archsearch.students import tiers
from archsearch.teachers import check_teacher


def validate(story: Story) -> Report:
    """Check everything that can be wrong before anything is spent; returns what the teacher turned out to be, and under
    `settled` the request with nothing left open."""
    story.ledger.report({"phase": "validating"})
    _check_devices(story)
    for note in story.dataset.notes:
        story.ledger.warn(note.code, note.detail)
    request, left, task = story.plan.request, story.plan.left, story.dataset.task
    checked = check_teacher(story.teacher, story.dataset, report=alive(story.ledger, "validating"))
    if request.kind != "distill":
        require_room_for(request.search.batch_size or 0, story.teacher, task)
    if "training" in left:
        check_pool(request.training, story.dataset)
        require_room_for_batch(amount(request.distill).batch_size, task)
    for note in (*story.dataset.notes, *story.teacher.notes, *checked.notes):
        story.ledger.warn(note.code, note.detail)
    if request.search.pretrained is not None:
        _ = story.shelf  # what it names has to be there, be it to compare with alone
    if request.kind != "distill":
        for tier in tiers(request):
            with tier.named():  # an impossible budget is refused here
                _ = (story if tier.of == 1 else story.of_one(tier.request, story.ledger)).spaces
    elif {"own space", "pretrained"} & {*left}:
        _check_own(story)
    if "device" in left:
        choice.check_device(request.budget)
    cost = story.teacher_cost
    return {
        "name": story.teacher.name,
        "sha256": story.teacher.sha256,
        "device": story.device,
        **{f"selection_{key}": value for key, value in checked.scores.items()},
        "params": cost.params,
        "macs": cost.macs,
        "settled": _settle(story),
    }


def _check_devices(story: Story) -> None:
    """Raise InvalidRequest where this machine lacks what the request is to be computed on; no data are read for it."""
    asked = story.request
    if asked.kind != "distill":
        check_search(asked.search, story.device)
    if asked.kind != "search" or asked.verify is not None:
        check_machine(asked.training, field="distill.device" if asked.distill.device else "device")


def _check_own(story: Story) -> None:
    """Hold a student that was named by hand against the teacher's own space, which has a meaning only now."""
    named = story.plan.request.student
    assert named is not None
    assert named.space is not None
    student = story.student(named.space, named.architecture or {})
    student.space.check(student.architecture, story.dataset.task)


def settled(story: Story, checked: Report) -> Story:
    """The story with its request as `validate` settled it, which is taken out of what that returned.

    What was kept before requests left anything open says nothing of it.
    """
    found = checked.pop("settled", None) or _settle(story)
    known = replace(story, request=JobRequest.model_validate(found["request"]), chosen=found["chosen"])
    # These took time to tell, and do not depend on it.
    told = {"opened", "plan", "teacher_cost", "exact_limits", "spaces", "readied", "shelf"}
    if "shelf" in story.__dict__ and known.request.search.pretrained != _with_networks(story).search.pretrained:
        told -= {"spaces", "shelf"}  # others are at hand than were when it was settled
    for name in told & story.__dict__.keys():
        known.__dict__[name] = story.__dict__[name]
    return known


def _settle(story: Story) -> Report:
    """What the plan settled, and what it could not tell before the families that are left were known."""
    plan, request = story.plan, _with_networks(story)
    chosen = dict(plan.chosen)
    if "verify" in plan.left:
        pace = domains.of(story.dataset.task).pace
        families = [space.name for space in story.spaces]
        found = defaults.settle(request, story.dataset.training_examples, families, pace)
        request, chosen = found.request, {**chosen, **found.why}
    if started := why_starts(story, request):
        chosen["init"] = started
    return {"request": request.model_dump(mode="json"), "chosen": chosen}


def _with_networks(story: Story) -> JobRequest:
    """The request as it was planned, naming the networks with weights there are: an architecture counts in them, and
    others may be at hand tomorrow."""
    request = story.plan.request
    if "pretrained" not in story.plan.left:
        return request
    named = tuple(member.stored.named for member in story.weighted.members) if story.weighted is not None else ()
    return request.model_copy(update={"search": request.search.model_copy(update={"pretrained": named})})
