"""What a candidate's score is believed to be while it is being computed.

A belief decides which candidates are scored before it is certain that they are proposed, and nothing else: a wrong one
costs time.
"""

# N trials, F features

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from archsearch.gaussian_process import Floats
from archsearch.request import Architecture, SearchSpec
from archsearch.search import surrogate
from archsearch.search.repair import Members
from archsearch.search.surrogate import Features, Reach, one_thread
from archsearch.search.trial import Trial

# Samplers that propose the same whatever the scores.
BLIND = ("random", "qmc")
# Before so many scores all are believed to be the usual one.
_FEWEST = 8
_LATEST = 200
_REFIT_EVERY, _FITTED_TO = 32, 100


class Beliefs:
    """A Gaussian process over the latest trials; see `surrogate`."""

    def __init__(self, spec: SearchSpec, spaces: Mapping[str, Members]) -> None:
        self._blind, self._features = spec.sampler in BLIND, Features(spaces)
        self._rows: list[tuple[Floats, Floats]] = []
        self._scores: list[float] = []
        self._reach, self._fitted = Reach(), 0

    def note(self, trial: Trial) -> None:
        """Learn a score."""
        if not self._blind and trial.first is not None:
            self._rows.append(self._features.of([(trial.space, trial.architecture)]))
            self._scores.append(trial.first)

    def of(self, space: str, architecture: Architecture) -> float:
        """The score on the lowest rung, in nats."""
        if len(self._scores) < _FEWEST:
            return float(np.median(self._scores)) if self._scores else 0.0
        with one_thread().limit(limits=1, user_api="blas"):
            if len(self._scores) - self._fitted >= _REFIT_EVERY or not self._fitted:
                self._reach, self._fitted = surrogate.choose_reach(*self._latest(_FITTED_TO)), len(self._scores)
            candidate = self._features.of([(space, architecture)])
            return float(surrogate.believed(*self._latest(_LATEST), candidate, self._reach)[0])

    def _latest(self, count: int) -> tuple[tuple[Floats, Floats], Floats]:
        params, costs = zip(*self._rows[-count:], strict=True)
        return (np.concatenate(params), np.concatenate(costs)), np.array(self._scores[-count:])
