"""Candidates side by side, and yet one after another: guesses at what will be proposed are scored before it is certain.

A proposal follows from all scores before it, so while a candidate is being scored nobody knows the next one; but what
it would be if the score were what is believed (`belief.py`) is told by a copy of the proposals, and after that the one
after it, and so on. Idle processes score these. A score depends on nothing but the candidate, so when the true
proposal is one of them, its score is there or under way, and when it is not, it is scored at once. The trials
are those of one process, in its order, whatever was guessed and whoever was faster.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from archsearch.hardware import Ruler
from archsearch.hardware.devices import pinned
from archsearch.proxies.score import Score
from archsearch.request import Architecture, SearchSpec
from archsearch.search.belief import Beliefs
from archsearch.search.bench import Bench, Climb, Look, as_trial, bars, price, stops
from archsearch.search.packing import asked, heard
from archsearch.search.propose import Proposals
from archsearch.search.repair import Members
from archsearch.search.scorers import Pool
from archsearch.search.trial import Trial, key
from archsearch.spaces import Cost

log = logging.getLogger(__name__)

Candidate = tuple[str, Architecture]
# Processes that may end over one candidate before it is given up.
_LIVES = 2
# How far ahead is guessed: beyond that, hardly a guess comes true.
_DEPTH = 16
# Seconds that proposing and scoring took, smoothed over about so many.
_SMOOTH = 8


class Ahead:
    """Scores what is proposed, and what will be.

    Args:
        members: Of every space that is searched.
        look: What scores a candidate in this process, while no other is ready.
        before: Candidates that are numbered before those of this search (count).
    """

    def __init__(
        self,
        spec: SearchSpec,
        bench: Bench,
        ruler: Ruler,
        members: Mapping[str, Members],
        pool: Pool,
        look: Look,
        before: int = 0,
    ) -> None:
        self._last = before + spec.candidates - 1
        self._spec, self._bench, self._ruler, self._members = spec, bench, ruler, members
        self._pool, self._look = pool, look
        self._beliefs = Beliefs(spec, members)
        # By key: what is known of candidates, the seconds it took, who is being scored, and how many processes ended.
        self._known: dict[str, Climb] = {}
        self._seconds: dict[str, float] = {}
        self._running: set[str] = set()
        self._deaths: dict[str, int] = {}
        self._strange: set[str] = set()
        # Candidates that were guessed and are not proposed yet.
        self._guessed: set[str] = set()
        self._proposing_s, self._scoring_s = 0.0, 0.0

    def note(self, trial: Trial) -> None:
        """Learn a trial that is certain."""
        self._beliefs.note(trial)

    def score(self, candidate: Candidate, number: int, seen: Sequence[Sequence[float]], proposals: Proposals) -> Trial:
        """The trial of what was proposed.

        Args:
            number: How many trials there are before it.
            seen: As `evaluate` takes it.
            proposals: That proposed it and were not told its score yet; they are only copied.
        """
        name, architecture = candidate
        space, wanted = self._members[name].space, key(name, architecture)
        cost, reason = self._price(candidate)
        if reason is not None:
            return as_trial(space, architecture, cost, Climb((), reason), number, 0.0)
        if wanted in self._guessed:
            self._guessed.remove(wanted)
            self._pool.told.used += 1
        self._take(self._pool.finished(wait=False))
        guesses = self._guesses(candidate, number, seen, proposals)
        while (climbed := self._settled(wanted, seen)) is None:
            if wanted in self._strange or (wanted not in self._running and not self._pool.ready):
                with pinned(self._pool.threads):
                    return self._look(self._spec, space, self._bench, architecture, self._ruler, number, seen)
            if wanted not in self._running and self._pool.idle:
                self._send(candidate, seen)
            busy = not self._pool.idle or not self._guess(guesses, seen)
            self._take(self._pool.finished(wait=busy))
        return as_trial(space, architecture, cost, climbed, number, self._seconds.get(wanted, 0.0))

    def _price(self, candidate: Candidate) -> tuple[Cost, str | None]:
        name, architecture = candidate
        members = self._members[name]
        return price(architecture, self._ruler.limits, measure=members.measure, estimate=members.estimate)

    def _settled(self, wanted: str, seen: Sequence[Sequence[float]]) -> Climb | None:
        """What one process would have seen of a candidate; None while that is not known."""
        known = self._known.get(wanted, Climb(()))
        for rung, result in enumerate(known.reached):
            if stops(self._spec, result.value, rung, seen):
                return Climb(known.reached[: rung + 1])
        if known.reason is not None or len(known.reached) == len(self._bench.rungs):
            return known
        if self._deaths.get(wanted, 0) >= _LIVES:
            return replace(
                known, reason=f"{_LIVES} processes that scored it were killed, most likely for want of memory"
            )
        return None

    def _send(self, candidate: Candidate, seen: Sequence[Sequence[float]]) -> None:
        name, architecture = candidate
        known = key(name, architecture)
        told = asked(self._members[name].space, self._bench, architecture)
        start = len(self._known.get(known, Climb(())).reached)
        self._pool.start(known, {**told, "bars": bars(self._spec, seen), "start": start})
        self._running.add(known)

    def _take(self, finished: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        for name, answer in finished:
            self._running.discard(name)
            if "ended" in answer:
                self._deaths[name] = self._deaths.get(name, 0) + 1
            elif "raised" in answer:
                self._strange.add(name)
            else:
                more, before = heard(answer), self._known.get(name, Climb(()))
                self._known[name] = Climb((*before.reached, *more.reached), more.reason)
                self._seconds[name] = self._seconds.get(name, 0.0) + answer["seconds"]
                self._scoring_s += (answer["seconds"] - self._scoring_s) / _SMOOTH

    def _guess(self, guesses: Iterator[Candidate], seen: Sequence[Sequence[float]]) -> bool:
        """Give one more guess to a process, unless there is none, or making it takes as long as a score."""
        if self._proposing_s > self._scoring_s > 0:
            return False
        started = time.monotonic()
        candidate = next(guesses, None)
        self._proposing_s += (time.monotonic() - started - self._proposing_s) / _SMOOTH
        if candidate is None:
            return False
        self._send(candidate, seen)
        self._guessed.add(key(*candidate))
        self._pool.told.guesses += 1
        return True

    def _guesses(
        self, candidate: Candidate, number: int, seen: Sequence[Sequence[float]], proposals: Proposals
    ) -> Iterator[Candidate]:
        """What will be proposed after a candidate, if scores are as believed, and is not being scored yet."""
        ahead, guess = proposals.copy(), candidate
        for there in range(number, min(number + _DEPTH, self._last)):
            ahead.tell(self._believed(guess, there, seen))
            found = ahead.next()
            if found is None:
                return
            guess = found
            name = key(*guess)
            fresh = name not in self._running and name not in self._known and name not in self._deaths
            if fresh and self._price(guess)[1] is None:
                yield guess

    def _believed(self, candidate: Candidate, number: int, seen: Sequence[Sequence[float]]) -> Trial:
        """A candidate as it is, or as it is believed to be."""
        name, architecture = candidate
        space = self._members[name].space
        cost, reason = self._price(candidate)
        climbed = Climb((), reason) if reason is not None else self._settled(key(name, architecture), seen)
        if climbed is None:
            climbed = Climb((Score(self._beliefs.of(name, architecture), {}, {}),))
        return as_trial(space, architecture, cost, climbed, number, 0.0)
