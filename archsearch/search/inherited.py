"""Candidates that begin with their teacher's weights: what is left of the teacher in them is measured, not guessed."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from archsearch.data.batches import free_memory
from archsearch.failures import NETWORK_FAILURES, reason_of
from archsearch.hardware import Ruler
from archsearch.inherit import Inheritance, Unsliceable
from archsearch.proxies.score import Score
from archsearch.request import Architecture, SearchSpec
from archsearch.search.bench import Bench, Climb, Look, tried
from archsearch.search.trial import Trial
from archsearch.spaces import Space

log = logging.getLogger(__name__)

# What the score is called beside proxies.
DIVERGENCE = "teacher_kl"


def look_at(inheritance: Inheritance) -> Look:
    """Scores a candidate with −KL(teacher ‖ student) in nats over the inheritance's examples, just after it was cut and
    mended: one pass, nothing is trained."""

    def look(
        spec: SearchSpec,
        space: Space,
        bench: Bench,
        architecture: Architecture,
        ruler: Ruler,
        number: int = 0,
        seen: Sequence[Sequence[float]] = (),
    ) -> Trial:
        return tried(space, architecture, ruler, number, lambda: _climb(spec, space, inheritance, architecture))

    return look


def _climb(spec: SearchSpec, space: Space, inheritance: Inheritance, architecture: Architecture) -> Climb:
    import torch

    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            nats = inheritance.nats(space.begin(architecture, inheritance.task))
    except Unsliceable as error:
        return Climb((), error.detail)
    except NETWORK_FAILURES as error:
        log.info("%s %s: %s", space.name, dict(architecture), reason_of(error), exc_info=True)
        free_memory()
        return Climb((), reason_of(error))
    if nats != nats or nats == float("inf"):
        return Climb((), "its answers after the cut are no numbers")
    return Climb((Score(-nats, {DIVERGENCE: nats}, {DIVERGENCE: -nats}),))
