"""What a request leaves open is settled by data and budget, once, before anything is spent; and said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archsearch import students
from archsearch.distill.amount import USUAL, amount, chosen
from archsearch.domains.domain import Pace
from archsearch.errors import InvalidRequest
from archsearch.request import DistillSpec, JobRequest, Spec, VerifySpec
from archsearch.search.bench import BATCH

# Fewest images a score can be made of.
LEAST = 8
# Candidates that are verified unasked, and the most of the training that may take.
CANDIDATES, SHARE = 4, 0.1


@dataclass(frozen=True)
class Settled:
    """A request that leaves nothing open, and why what it left open is what it is, by part."""

    request: JobRequest
    why: Mapping[str, str]


def settle(request: JobRequest, images: int, families: Sequence[str] | None = (), pace: Pace = USUAL) -> Settled:
    """The request as it will be carried out; settling it again changes nothing.

    Args:
        images: In the training split (count).
        families: Names of the spaces that are searched; None where they are not known yet, and what depends on them
            stays open.
        pace: The domain's.
    """
    request, why = students.settled(request)
    search = request.search.model_copy(update={"batch_size": scored_on(request, images)})
    update: dict[str, Spec | None] = {"search": search}
    distill, why = request.distill, dict(why)
    if trains(request):
        open_ = distill.epochs is None or distill.batch_size is None
        found = chosen(distill, images, pace)
        update["distill"] = distill = found.spec
        if open_:
            why["distill"] = found.why
    if request.verify == "auto" and not (families is None and compares(request)):
        update["verify"], reason = verified(request, distill, families or ())
        if reason:
            why["verify"] = reason
    return Settled(request.model_copy(update=update), why)


def trains(request: JobRequest) -> bool:
    """Whether anything is trained: a student, or candidates to verify."""
    return request.kind != "search" or request.verification is not None


def compares(request: JobRequest) -> bool:
    """Whether a search may end with several families, of which one is distilled."""
    return request.kind == "search_and_distill" and request.search.space == "auto"


def scored_on(request: JobRequest, images: int) -> int:
    """Images of the batch all candidates are scored on; raises InvalidRequest where there are not so many."""
    asked = request.search.batch_size
    if request.kind == "distill":
        return asked or BATCH
    if images < LEAST:
        raise InvalidRequest(f"{images} training examples are too few; a score takes {LEAST} at least", field="data")
    if asked is not None and asked > images:
        raise InvalidRequest(
            f"{asked} is more than the {images} training examples there are", field="search.batch_size"
        )
    return asked or min(BATCH, images)


def verified(request: JobRequest, distill: DistillSpec, families: Sequence[str]) -> tuple[VerifySpec | None, str]:
    """How a search's best are verified where nobody said, and why so; nothing is said where there is nothing to."""
    if not compares(request) or len(families) < 2:
        return None, ""
    trainings = distill.seeds + distill.baseline
    epochs = math.floor(SHARE * trainings * amount(distill).epochs)
    of = f"{len(families)} families are left ({', '.join(families)}), between which the score does not rank yet"
    if epochs < 2:
        return None, f"{of}; but a tenth of the training is no epoch for two: set verify to have the best compared"
    candidates = min(CANDIDATES, epochs, request.search.candidates)
    if candidates < 2:
        return None, ""
    # One round: trained anew at twice the epochs, the better half would cost as much as twice the epochs for all.
    spec = VerifySpec(candidates=candidates, epochs=epochs // candidates, rounds=1, share=SHARE)
    passes = "an epoch" if spec.epochs == 1 else f"{spec.epochs} epochs"
    return spec, f"{of}: the best {candidates} are distilled for {passes} each, within a tenth of the training"


def as_before(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request's JSON as it was kept before it could leave anything open: with what were the defaults then."""
    found: dict[str, Any] = {**body, "verify": None if body["verify"] == "auto" else body["verify"]}
    for part, field, value in _BEFORE:
        if found[part][field] is None:
            found[part] = {**found[part], field: value}
    return found


_BEFORE = (("search", "batch_size", 64), ("distill", "epochs", 60), ("distill", "batch_size", 128))
