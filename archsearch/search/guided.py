"""The default sampler: TPE and mutations make a pool, and a guess of the score says which one of it is worth scoring.

Scoring a candidate takes a hundred times as long as proposing one, so it pays to propose many and score one. A pool
holds one proposal of Optuna's TPE, children of the best trials (one to three parameters changed), and random members,
all of them within the budget and none known. Of these the one with the highest expected improvement is scored, under a
Gaussian process over parameters and costs (`surrogate`) that follows from the trials alone. Every eighth proposal is
TPE's own, whatever the process thinks of it, so that a wrong guess delays a search and cannot blind it.

Where a cost is traded, each pool is judged by a weighted sum of score and cost with weights of its own (after ParEGO,
Knowles 2006), which spreads the candidates over the front.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Mapping

import numpy as np

from archsearch.gaussian_process import Floats
from archsearch.request import Architecture, SearchSpec
from archsearch.search import surrogate
from archsearch.search.pareto import ranked
from archsearch.search.repair import Members
from archsearch.search.samplers import Conditional, Raw, mutated, seeded
from archsearch.search.surrogate import Features, Reach, one_thread
from archsearch.search.trial import Trial, key

# Before so many trials there is nothing to guess from.
_STARTUP = 16
_POOL = 48
# Shares of the pool: one is TPE's, so many are random, the rest are children.
_RANDOM = 8
# The best, from whom children come.
_PARENTS = 12
_TPE_EVERY = 8
# The process's own parameters are chosen anew after so many trials, by the latest.
_REFIT_EVERY = 16
_FITTED_TO = 100
# A process looks at the latest and the best; its work grows with the cube of their number.
_LATEST = 150
_BEST = 100


class Guided:
    """TPE behind a guess of the score."""

    replays = False

    def __init__(self, spec: SearchSpec, spaces: Mapping[str, Members]) -> None:
        self._spec, self._spaces = spec, spaces
        self._plain = Conditional(spec, spaces)
        self._features = Features(spaces)
        self._trials: list[Trial] = []
        self._known: set[str] = set()
        self._reach: dict[int, Reach] = {}

    def copy(self) -> Guided:
        """See Sampler."""
        found = copy.copy(self)
        found._plain = self._plain.copy()
        found._trials, found._known, found._reach = list(self._trials), set(self._known), dict(self._reach)
        return found

    def ask(self, attempt: int) -> Raw:
        told = len(self._trials)
        scored = sum(trial.first is not None for trial in self._trials)
        if told < _STARTUP:
            return self._at_random(told, attempt)
        if attempt or scored < _STARTUP // 2 or told % _TPE_EVERY == _TPE_EVERY - 1:
            return self._plain.ask(attempt)
        rng = seeded(self._spec, told, attempt)
        pool = self._pool(rng)
        return pool[self._pick(pool, rng)] if pool else self._plain.ask(attempt)

    def tell(self, trial: Trial, *, asked: bool) -> None:
        self._plain.tell(trial, asked=asked)
        self._trials.append(trial)
        self._known.add(key(trial.space, trial.architecture))

    def again(self, trial: Trial) -> None:
        """Nothing is learned from it."""

    def _at_random(self, told: int, attempt: int) -> Raw:
        """Spaces by turns."""
        name = list(self._spaces)[(told + attempt) % len(self._spaces)]
        return name, self._spaces[name].draw(seeded(self._spec, told, attempt))

    def _pool(self, rng: random.Random) -> list[Raw]:
        """Members that nobody has scored, within the budget by the closed form: only the one picked is counted."""
        found: dict[str, Raw] = {}

        def add(raw: Raw, towards: Architecture | None = None) -> None:
            mended = self._spaces[raw[0]].mend(raw[1], rng, towards, exactly=False)
            if mended is not None and (name := key(raw[0], mended)) not in self._known:
                found[name] = raw[0], mended

        add(self._plain.ask(0))
        for _ in range(_RANDOM):
            name = rng.choice(list(self._spaces))
            add((name, self._spaces[name].draw(rng)))
        parents = ranked(self._trials, self._spec.trade, _PARENTS)
        for _ in range(_POOL - len(found)):
            parent = rng.choice(parents)
            space, architecture = mutated(parent, self._spaces, rng)
            for _ in range(rng.choice((0, 0, 1, 2)) if space == parent.space else 0):
                p = rng.choice(self._spaces[space].parameters)
                near = [v for v in p.values if v != architecture[p.name]]
                # A step or two where there are many values, any where there are few.
                near = [v for v in near if abs(v - architecture[p.name]) <= 2 * p.step or len(p.values) < 6] or near
                if near:
                    architecture = {**architecture, p.name: rng.choice(near)}
            add((space, architecture), parent.architecture if space == parent.space else None)
        return list(found.values())

    def _pick(self, pool: list[Raw], rng: random.Random) -> int:
        """The place in the pool of the one to score."""
        with one_thread().limit(limits=1, user_api="blas"):
            return self._best_guess(pool, rng)

    def _best_guess(self, pool: list[Raw], rng: random.Random) -> int:
        told = len(self._trials)
        weight = 1.0 if self._spec.trade is None else rng.random()
        fitted = told - told % _REFIT_EVERY
        if fitted not in self._reach:
            self._reach[fitted] = surrogate.choose_reach(
                *self._told(self._trials[max(0, fitted - _FITTED_TO) : fitted], 1.0)
            )
        x, y_N = self._told(self._trials, weight)
        guess = surrogate.guess(x, y_N, self._features.of(pool), self._reach[fitted])
        return int(np.argmax(surrogate.expected_improvement(*guess)))

    def _told(self, trials: list[Trial], weight: float) -> tuple[tuple[Floats, Floats], Floats]:
        """Features of the trials a process looks at, and what it is to guess: a failed trial is as bad as the worst."""
        best = {t.number for t in ranked(trials[:-_LATEST], self._spec.trade, _BEST)}
        chosen = [trial for i, trial in enumerate(trials) if i >= len(trials) - _LATEST or trial.number in best]
        worst = min((trial.first for trial in chosen if trial.first is not None), default=0.0)
        y_N = np.array([worst if trial.first is None else trial.first for trial in chosen])
        if weight < 1:
            costs_N = [math.log(max(getattr(trial.cost, self._spec.trade or ""), 1e-12)) for trial in chosen]
            y_N = weight * _unit(y_N) - (1 - weight) * _unit(np.array(costs_N))
        return self._features.of([(trial.space, trial.architecture) for trial in chosen]), y_N


def _unit(values_N: Floats) -> Floats:
    low, high = np.quantile(values_N, 0.05), values_N.max()
    found: Floats = np.maximum((values_N - low) / max(high - low, 1e-9), 0.0)
    return found
