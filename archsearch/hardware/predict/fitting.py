"""A predictor fitted to members that were timed: of four ways to read the same prices, the best on members left out."""

# N members, F features

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from archsearch.errors import InvalidRequest
from archsearch.gaussian_process import log_likelihood, squared_exponential
from archsearch.hardware.predict.features import FEATURES, Floats, featurise
from archsearch.hardware.predict.predictor import Predictor
from archsearch.hardware.predict.prices import fit_prices
from archsearch.spaces import Count

FEWEST = 5

# Lengths and noises tried for what the prices leave over, in standard deviations of log features and of residuals.
_LENGTHS = (0.5, 1.0, 2.0, 4.0)
_NOISES = (0.03, 0.1, 0.3, 1.0, 3.0)
# Nothing is predicted below this share of the fastest member measured: prices may be negative, latency is not.
_FLOOR = 0.2
# A less simple reading has to be so much better on unseen members, and by more than clocks tell apart.
_WORTH = 0.95
_CLOCK = 0.002

# From simple to less simple: prices of either sign fit layers that `Count` does not tell apart (a pooling that costs
# more than a convolution writes as much); a correction follows what no sum of layers does.
_READINGS = {
    "prices": (False, False),
    "signed prices": (True, False),
    "prices and correction": (False, True),
    "signed prices and correction": (True, True),
}


def fit(counts: Sequence[Count], latencies_ms: Sequence[float]) -> Predictor:
    """The predictor that does best on members left out, one at a time, of those given.

    Raises:
        InvalidRequest: Fewer than five members, or a latency that is none.
    """
    y_N = np.asarray(latencies_ms, float)
    if len(counts) != len(y_N) or len(y_N) < FEWEST:
        raise InvalidRequest(f"{len(counts)} members with {len(y_N)} latencies; at least {FEWEST} of both are needed")
    if not (np.isfinite(y_N).all() and (y_N > 0).all()):
        raise InvalidRequest("a latency is not a number of milliseconds above 0")
    x_NF = featurise(counts)
    best = None
    for name, (signed, corrected) in _READINGS.items():
        errors_N = _left_out(x_NF, y_N, signed, corrected)
        spread = float(np.sqrt(np.square(errors_N).mean()))
        if best is None or spread + _CLOCK < _WORTH * best.spread:
            made = _fit(x_NF, y_N, signed, corrected)
            best = replace(made, reading=name, error=float(np.abs(np.expm1(errors_N)).mean()), spread=spread)
    assert best is not None
    return best


def _left_out(x_NF: Floats, y_N: Floats, signed: bool, corrected: bool) -> Floats:
    """Log of predicted over measured, each member by a fit to the others."""
    errors = []
    for i in range(len(y_N)):
        others = np.arange(len(y_N)) != i
        made = _fit(x_NF[others], y_N[others], signed, corrected)
        errors.append(float(np.log(made.read(x_NF[i]) / y_N[i])))
    return np.array(errors)


def _fit(all_NF: Floats, y_N: Floats, signed: bool, corrected: bool) -> Predictor:
    varies_F = np.ptp(all_NF, axis=0) > 1e-9 * np.abs(all_NF).max(0)
    x_NF = all_NF[:, varies_F]
    constant, *prices = fit_prices(x_NF, y_N, signed).tolist()
    mean_F = x_NF.mean(0)
    made = Predictor(
        features=tuple(name for name, varies in zip(FEATURES, varies_F, strict=True) if varies),
        prices=tuple(prices),
        constant=constant,
        floor_ms=_FLOOR * float(y_N.min()),
        offsets=tuple((0.1 * mean_F).tolist()),
        means=tuple(np.log(x_NF + 0.1 * mean_F).mean(0).tolist()),
        # Features are many and move together: the distance is a mean over them, not a sum.
        deviations=tuple((math.sqrt(max(len(mean_F), 1)) * np.log(x_NF + 0.1 * mean_F).std(0)).tolist()),
        centres=(),
        weights=(),
        length=1.0,
        reading="",
        error=0.0,
        spread=0.0,
        members=len(y_N),
    )
    if not corrected or not made.features:
        return made
    z_NF = (np.log(x_NF + made.offsets) - made.means) / made.deviations
    left_N = np.log(y_N / [made.read(row_F) for row_F in all_NF])
    length, weights_N = _correct(z_NF, left_N)
    return replace(made, centres=tuple(map(tuple, z_NF.tolist())), weights=tuple(weights_N.tolist()), length=length)


def _correct(z_NF: Floats, left_N: Floats) -> tuple[float, Floats]:
    """Length and weights of the likeliest Gaussian process of what the prices leave over.

    Where no process is likelier than noise, all weights are 0.
    """
    members = len(left_N)
    square_NN = np.square(z_NF[:, None] - z_NF[None]).sum(2)
    best, length, weights_N = log_likelihood(np.eye(members), left_N), 1.0, np.zeros(members)
    for tried, noise in product(_LENGTHS, _NOISES):
        kernel_NN = squared_exponential(square_NN / tried**2) + noise * np.eye(members)
        if (found := log_likelihood(kernel_NN, left_N)) > best:
            best, length, weights_N = found, tried, np.array(np.linalg.solve(kernel_NN, left_N), float)
    return length, weights_N
