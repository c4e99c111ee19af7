"""The story of several students: a search for each limit, one ledger of candidates, one teacher's answers for all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ParamSpec

from archsearch import choice
from archsearch.data.batches import free_memory
from archsearch.errors import InvalidRequest, SearchError, TooMuchMemory, TrainingError, public
from archsearch.failures import NETWORK_FAILURES, reason_of
from archsearch.ledger.ledger import Once, Report
from archsearch.ledger.student import StudentLedger
from archsearch.outfolder import STUDENTS
from archsearch.request import StudentSpec
from archsearch.search import key
from archsearch.story.beside import compare
from archsearch.story.distil import distil
from archsearch.story.find import chosen, measured, scored, within
from archsearch.story.finish import closing, examined, model_of
from archsearch.story.rows import NONE, One, row
from archsearch.story.story import Story
from archsearch.story.verify import verify
from archsearch.students import Tier, tiers

P = ParamSpec("P")
log = logging.getLogger(__name__)

FAILED = "student_failed"
# What one student fails by, and the others need not.
_ITS_OWN = (SearchError, TrainingError, TooMuchMemory, InvalidRequest)


def several(story: Story, once: Once, result: Report) -> Report:
    """What `tell` does after validation, where the request asks for several students.

    The names of phases are those of a single student, with the student's number from the second on.
    """
    each = _found(story, once)
    if story.request.verification is not None:
        each = [_verified(one, once) for one in each]
    each = _told_apart(each)
    if story.request.kind != "search":
        each = _trained(story, each, once)
    _require_any(each)
    return once("export", _finish, story, each, result)


def _found(story: Story, once: Once) -> list[One]:
    """A search for each limit, the loosest first; then of each the best of all candidates that it holds."""
    limits, number = tiers(story.request), 0
    own = [story.of_one(tier.request, _ledger(story, tier)) for tier in limits]
    explored: list[Report] = []
    for tier, each in zip(limits, own, strict=True):
        others = tuple(zip(limits, own, strict=True)) if tier.number == 1 else ()
        explored.append(once(_named("search", tier), _explore, each, number, others))
        number = explored[-1]["candidates"]
    return [
        One(tier, each, once(_named("winner", tier), _or_failed, each, _choose, each, told))
        for tier, each, told in zip(limits, own, explored, strict=True)
    ]


def _explore(story: Story, first: int, others: Sequence[tuple[Tier, Story]]) -> Report:
    """The search for one limit.

    Args:
        first: Number of its first candidate.
        others: All limits, before the first of them is searched: an impossible latency is told before anything is
            scored.
    """
    ruler, searched = measured(story)
    for tier, other in others if choice.wants_latency(story.request) else ():
        with tier.named():
            choice.require_fast_enough(replace(ruler, limits=other.limits), other.spaces, tier.request.budget)
    trials, ends, told = scored(story, ruler, searched, first)
    seconds = story.ledger.seconds("searching")
    return {"candidates": len(trials), "ends": ends, "workers": told, "seconds": seconds}


def _choose(story: Story, explored: Report) -> Report:
    """The best of all candidates within one limit, whichever search they came from."""
    ruler, searched = measured(story)
    trials = within(story.ledger.trials(), ruler.limits)
    found = chosen(story, ruler, searched, trials, explored["ends"], explored["workers"])
    return {**found, "seconds": explored["seconds"]}


def _verified(one: One, once: Once) -> One:
    if one.failed is not None:
        return one
    own = _with_own_folder(one, before=(one.tier.number - 1) / one.tier.of, share=1 / one.tier.of)
    found = once(_named("verify", one.tier), _or_failed, own.story, verify, own.story, one.found)
    return replace(own, verified=found)


def _told_apart(each: Sequence[One]) -> list[One]:
    """The students, each that is the network of one before it named as that."""
    seen: dict[str, int] = {}
    found = []
    for one in each:
        if one.failed is None:
            first = seen.setdefault(key(one.chosen["space"], one.chosen["architecture"]), one.tier.number)
            one = one if first == one.tier.number else replace(one, same_as=first)
        found.append(one)
    return found


def _trained(story: Story, each: Sequence[One], once: Once) -> list[One]:
    """The students, those that are networks of their own distilled one after the other."""
    wanted = [one.tier.number for one in each if one.failed is None and one.same_as is None]
    found: dict[int, One] = {}
    for one in each:
        if one.tier.number in wanted:
            there = any(other.trained is not None and other.failed is None for other in found.values())
            done, share = wanted.index(one.tier.number), 1 / len(wanted)
            # The first that comes about lies where a single one would.
            own = _with_own_folder(one, place=one.tier.number if there else 1, before=done * share, share=share)
            one = replace(own, trained=_distilled(own, once))
        elif one.same_as is not None and (reason := found[one.same_as].failed) is not None:
            one = replace(one, trained={NONE: f"it is student {one.same_as}: {reason}"})
        found[one.tier.number] = one
    return list(found.values())


def _distilled(one: One, once: Once) -> Report:
    """A student, trained anew where an earlier attempt's is gone."""
    trained = once(_named("distill", one.tier), _or_failed, one.story, distil, one.story, one.chosen)
    if NONE in trained or one.story.ledger.path(trained["folder"]).is_dir():
        return trained
    return once(_named("distill anew", one.tier), _or_failed, one.story, distil, one.story, one.chosen)


def _require_any(each: Sequence[One]) -> None:
    """Raise what the first student failed by, where no other came about either."""
    if all(one.failed is not None for one in each):
        raise SearchError(f"none of {len(each)} students came about; the first: {each[0].failed}")


def _finish(story: Story, each: Sequence[One], result: Report) -> Report:
    """Examine every student, compare all, and hand them over: the first where a single one lies, the others beside."""
    own = [one for one in each if one.failed is None and one.same_as is None]
    first, share = own[0], 1 / (len(own) + 1)
    seen: dict[int, Report] = {}
    for done, one in enumerate(own):
        told = {"teacher": result["teacher"], "chosen": result["chosen"], **one.phases}
        shown = _with_own_folder(one, before=done * share, share=share).story
        seen[one.tier.number] = examined(shown, one.chosen, told)
    places = {one.tier.number: "." if one is first else f"{STUDENTS}/{one.tier.number}" for one in own if one.trained}
    rows = []
    for one in each:
        number = one.same_as or one.tier.number
        rows.append({**row(one, seen.get(number, {})), "folder": None if one.failed else places.get(number)})
    whole = {**seen[first.tier.number], "students": rows}
    if first.trained is not None:
        whole |= compare(story, each, whole, story.ledger.path(first.trained["folder"]))
    for one in own[1:] if first.trained is not None else ():
        _hand_over(one, {**seen[one.tier.number], "students": rows})
    # Of the others their rows tell.
    closed = {**whole, **closing(story), "degraded": rows[first.tier.number - 1]["degraded"]}
    told = {"request": story.request.model_dump(mode="json"), **closed}
    story.ledger.publish((first.trained or {}).get("folder"), told, model_of(first.story, first.chosen))
    return closed


def _hand_over(one: One, told: Report) -> None:
    """Publish a student beside the first, with the request that makes it alone."""
    named = StudentSpec(space=one.chosen["space"], architecture=dict(one.chosen["architecture"]))
    update: dict[str, Any] = {"kind": "distill", "verify": None, "student": named}
    request = one.tier.request.model_copy(update=update)
    ledger = _ledger(one.story, one.tier, place=one.tier.number)
    told = {"request": request.model_dump(mode="json"), **told, **closing(one.story)}
    assert one.trained is not None
    ledger.publish(one.trained["folder"], told, model_of(one.story, one.chosen))


def _named(phase: str, tier: Tier) -> str:
    return phase if tier.number == 1 else f"{phase} {tier.number}"


def _ledger(story: Story, tier: Tier, **how: Any) -> StudentLedger:
    """The ledger as a student sees it while the folder is that of all."""
    whole = (story.whole or story).ledger
    return StudentLedger(whole, tier.number, tier.of, whole.folder, **how)


def _with_own_folder(one: One, **how: Any) -> One:
    """The student with a ledger whose folder is its own: checkpoints and brief trainings of two do not meet."""
    ledger = _ledger(one.story, one.tier, **how)
    if one.tier.number > 1:
        ledger = replace(ledger, folder=ledger.folder / STUDENTS / str(one.tier.number))
    return replace(one, story=_in_ledger(one.story, ledger))


def _in_ledger(story: Story, ledger: StudentLedger) -> Story:
    """The same story, with what took time to tell, written somewhere else."""
    found = replace(story, ledger=ledger)
    for name in {"opened", "exact_limits", "spaces"} & story.__dict__.keys():
        found.__dict__[name] = story.__dict__[name]
    return found


def _or_failed(story: Story, phase: Callable[P, Report], *args: P.args, **kwargs: P.kwargs) -> Report:
    """A phase of one student; where it fails for that student's own reasons, why, and the others go on."""
    try:
        return phase(*args, **kwargs)
    except _ITS_OWN as error:
        log.warning("a student fails: %s", error)
        reason = public(error.detail)
    except NETWORK_FAILURES as error:
        log.warning("a student fails", exc_info=True)
        reason = reason_of(error)
    free_memory()
    story.ledger.warn(FAILED, reason)
    return {NONE: reason}
