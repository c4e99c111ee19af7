"""Candidates that come with weights: what their features know of the teacher's answers is measured."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from archsearch.data.batches import free_memory
from archsearch.errors import TeacherError
from archsearch.failures import NETWORK_FAILURES, reason_of
from archsearch.hardware import Ruler
from archsearch.pretrained import Known, NoHead, Shelf
from archsearch.proxies.score import Score
from archsearch.request import Architecture, SearchSpec
from archsearch.search.bench import Bench, Climb, Look, tried
from archsearch.search.inherited import DIVERGENCE
from archsearch.search.trial import Trial
from archsearch.spaces import Space

log = logging.getLogger(__name__)


def look_along(shelf: Shelf) -> Look:
    """Scores a network with −KL(teacher ‖ student) in nats over the shelf's examples, the student a closed-form head on
    its features that never saw the example it is asked about; the unit and the meaning of what is left of a teacher
    after a cut."""

    def look(
        spec: SearchSpec,
        space: Space,
        bench: Bench,
        architecture: Architecture,
        ruler: Ruler,
        number: int = 0,
        seen: Sequence[Sequence[float]] = (),
    ) -> Trial:
        return tried(space, architecture, ruler, number, lambda: _climb(shelf, architecture))

    return look


def _climb(shelf: Shelf, architecture: Architecture) -> Climb:
    try:
        known = shelf.look(architecture)
    except (NoHead, TeacherError) as error:
        return Climb((), error.detail)
    except NETWORK_FAILURES as error:
        log.info("%s: %s", shelf.member(architecture).stored.label, reason_of(error), exc_info=True)
        free_memory()
        return Climb((), reason_of(error))
    return Climb((scored(known),)) if known.nats < float("inf") else Climb((), "its features are no numbers")


def scored(known: Known) -> Score:
    """A score by −KL, with the other measures of the features beside it."""
    return Score(-known.nats, known.proxies, {DIVERGENCE: -known.nats})
