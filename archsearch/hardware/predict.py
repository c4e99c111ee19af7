"""Latency of a whole space from some twenty of its members timed on a device.

A network's latency is, to a first approximation, a sum of its layers' (Ma et al. 2018; nn-Meter, Zhang et al. 2021).
Its `Count` says how many layers there are of each kind, how many multiply-accumulates those compute and how many
activations are written; the device's price of each is found by least squares of relative errors. Twenty networks do
not tell all prices apart, so a ridge holds each near an equal share of the whole, and of four ways to read the same
prices the one is taken that best predicts the members it has not seen.
"""

# N members, F features, M prices (with the constant)

from __future__ import annotations

import hashlib
import json
import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from archsearch.data.task import Task
from archsearch.errors import ImpossibleBudget, InvalidRequest
from archsearch.hardware.latency import Latency, describe_machine, measure_latency, require_device
from archsearch.request import Architecture
from archsearch.spaces import Count, Space
from archsearch.spaces.count import KINDS
from archsearch.whole import write_whole

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]

# Raise it when the same members would give other latencies or prices.
_VERSION = 1

FEATURES = (*(f"layers_{kind}" for kind in KINDS), *(f"work_{kind}" for kind in KINDS), "moved", "params", "norms")
_COLUMNS = {name: i for i, name in enumerate(FEATURES)}
FEWEST = 5

# Of the squared relative error: a price that is as far from its equal share as that share is large costs so much.
_RIDGE = 1e-3
# Lengths and noises tried for what the prices leave over, in standard deviations of log features and of residuals.
_LENGTHS = (0.5, 1.0, 2.0, 4.0)
_NOISES = (0.03, 0.1, 0.3, 1.0, 3.0)
# Nothing is predicted below this share of the fastest member measured: prices may be negative, latency is not.
_FLOOR = 0.2
# A less simple reading has to be so much better on unseen members, and by more than clocks tell apart.
_WORTH = 0.95
_CLOCK = 0.002
# Random members a design is picked from, and how many are looked at for as many that are feasible.
_POOL = 400
_TRIES = 4000
# Two-sided 90 % of a normal law.
_NINETY = 1.645


@dataclass(frozen=True)
class Predictor:
    """Milliseconds of one batch from a network's count. Plain numbers only, so that it travels as JSON.

    Attributes:
        features: Names of the features that differ between the members it was fitted on.
        prices: Milliseconds of each feature's unit; `constant` what every network pays.
        floor_ms: Least that is predicted.
        centres: Members' log features, standardised by `means` and `deviations`; empty without a correction.
        weights: Of each centre in the correction of log latency, which fades with distance over `length`.
        offsets: Added to a feature before its logarithm.
        reading: Which of the four ways was taken, for people.
        error: Mean relative error on members left out of the fit, one at a time.
        spread: Root mean square error of log latency on the same.
        members: How many it was fitted on.
    """

    features: tuple[str, ...]
    prices: tuple[float, ...]
    constant: float
    floor_ms: float
    offsets: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    centres: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    length: float
    reading: str
    error: float
    spread: float
    members: int

    @cached_property
    def _columns(self) -> npt.NDArray[np.intp]:
        return np.array([_COLUMNS[name] for name in self.features], np.intp)

    @cached_property
    def _prices(self) -> Floats:
        return np.array(self.prices)

    @cached_property
    def _correction(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        arrays = (self.offsets, self.means, self.deviations, self.centres, self.weights)
        offsets_F, means_F, deviations_F, centres_NF, weights_N = (np.array(values) for values in arrays)
        return offsets_F, means_F, deviations_F, centres_NF, weights_N

    def predict(self, count: Count) -> float:
        """Milliseconds of one batch."""
        return self._read(_features(count))

    def predict_interval(self, count: Count) -> tuple[float, float]:
        """Where nine latencies in ten lie, by the errors on members left out of the fit."""
        milliseconds = self.predict(count)
        factor = math.exp(_NINETY * self.spread)
        return milliseconds / factor, milliseconds * factor

    def _read(self, all_F: Floats) -> float:
        x_F = all_F[self._columns]
        milliseconds = max(self.constant + float(x_F @ self._prices), self.floor_ms)
        if not self.weights:
            return milliseconds
        offsets_F, means_F, deviations_F, centres_NF, weights_N = self._correction
        z_F = (np.log(x_F + offsets_F) - means_F) / deviations_F
        near_N = np.exp(-0.5 * np.square(centres_NF - z_F).sum(1) / self.length**2)
        return milliseconds * math.exp(float(near_N @ weights_N))

    def to_json(self) -> str:
        return json.dumps({"version": _VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Predictor:
        """A predictor from `to_json`; raises InvalidRequest for anything else."""
        try:
            body = json.loads(text)
            version = body.pop("version")
            if version != _VERSION:
                raise InvalidRequest(f"a predictor of version {version}; this is {_VERSION}: calibrate again")
            lists = {name: tuple(value) for name, value in body.items() if isinstance(value, list)}
            lists["centres"] = tuple(tuple(centre) for centre in lists["centres"])
            found = cls(**{**body, **lists})
            found.predict(Count())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidRequest(f"no predictor: {error}; calibrate again") from None
        return found


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


def featurise(counts: Sequence[Count]) -> Floats:
    """Members × FEATURES."""
    return np.array([_features(count) for count in counts])


def _features(count: Count) -> Floats:
    return np.array((*count.layers, *count.work, count.moved, count.params, count.counters), float)


def _left_out(x_NF: Floats, y_N: Floats, signed: bool, corrected: bool) -> Floats:
    """Log of predicted over measured, each member by a fit to the others."""
    errors = []
    for i in range(len(y_N)):
        others = np.arange(len(y_N)) != i
        made = _fit(x_NF[others], y_N[others], signed, corrected)
        errors.append(float(np.log(made._read(x_NF[i]) / y_N[i])))
    return np.array(errors)


def _fit(all_NF: Floats, y_N: Floats, signed: bool, corrected: bool) -> Predictor:
    varies_F = np.ptp(all_NF, axis=0) > 1e-9 * np.abs(all_NF).max(0)
    x_NF = all_NF[:, varies_F]
    constant, *prices = _prices(x_NF, y_N, signed).tolist()
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
    left_N = np.log(y_N / [made._read(row_F) for row_F in all_NF])
    length, weights_N = _correct(z_NF, left_N)
    return replace(made, centres=tuple(map(tuple, z_NF.tolist())), weights=tuple(weights_N.tolist()), length=length)


def _prices(x_NF: Floats, y_N: Floats, signed: bool) -> Floats:
    """The constant and the prices that minimise squared relative errors, with a ridge toward equal shares."""
    share_NM = np.column_stack([np.ones(len(y_N)), x_NF]) / y_N[:, None]
    # In units of its mean share of latency every column has the same say.
    mean_M = share_NM.mean(0)
    share_NM = share_NM / mean_M
    members, columns = share_NM.shape
    pull = _RIDGE * members
    gram_MM = share_NM.T @ share_NM + pull * np.eye(columns)
    target_M = share_NM.sum(0) + pull / columns
    found_M = np.linalg.solve(gram_MM, target_M) if signed else _non_negative(gram_MM, target_M)
    prices_M: Floats = found_M / mean_M
    return prices_M


def _non_negative(gram_MM: Floats, target_M: Floats) -> Floats:
    """argmin of ½ wᵀ G w − tᵀ w over w ≥ 0, for G positive definite (Lawson and Hanson 1974, ch. 23)."""
    w_M = np.zeros(len(target_M))
    free_M = np.zeros(len(target_M), bool)
    for _ in range(10 * len(target_M)):
        gain_M = np.where(free_M, -np.inf, target_M - gram_MM @ w_M)
        if gain_M.max() <= 1e-10 * np.abs(target_M).max():
            break
        free_M[gain_M.argmax()] = True
        while True:
            goal_M = np.zeros(len(target_M))
            goal_M[free_M] = np.linalg.solve(gram_MM[np.ix_(free_M, free_M)], target_M[free_M])
            low_M = free_M & (goal_M <= 0)
            if not low_M.any():
                w_M = goal_M
                break
            # As far toward the goal as the first weight that would turn negative allows.
            step = (w_M[low_M] / (w_M[low_M] - goal_M[low_M])).min()
            w_M = w_M + step * (goal_M - w_M)
            free_M &= w_M > 1e-12
            w_M[~free_M] = 0.0
    return w_M


def _correct(z_NF: Floats, left_N: Floats) -> tuple[float, Floats]:
    """A Gaussian process of what the prices leave over: length and weights of the likeliest (Rasmussen 2006, eq. 5.8).

    Its variance is the likeliest too, in closed form; where no process is likelier than noise, all weights are 0.
    """
    members = len(left_N)
    square_NN = np.square(z_NF[:, None] - z_NF[None]).sum(2)

    def likelihood(kernel_NN: Floats) -> float:
        half_NN = np.linalg.cholesky(kernel_NN)
        variance = np.square(np.linalg.solve(half_NN, left_N)).mean() + 1e-12
        return float(-0.5 * members * np.log(variance) - np.log(np.diag(half_NN)).sum())

    best, length, weights_N = likelihood(np.eye(members)), 1.0, np.zeros(members)
    for tried in _LENGTHS:
        for noise in _NOISES:
            kernel_NN = np.exp(-0.5 * square_NN / tried**2) + noise * np.eye(members)
            if (found := likelihood(kernel_NN)) > best:
                best, length, weights_N = found, tried, np.linalg.solve(kernel_NN, left_N)
    return length, weights_N


@dataclass(frozen=True)
class Calibration:
    """What was timed on a device, and the predictor it led to."""

    space: str
    device: str
    batch: int
    threads: int
    members: tuple[Architecture, ...]
    latencies: tuple[Latency, ...]
    predictor: Predictor


def pick_members(
    space: Space, task: Task, feasible: Callable[[Architecture], bool] | None, n: int, seed: int
) -> list[Architecture]:
    """`n` members far apart in what latency is made of, the smallest and the largest first; the same for the same seed.

    Out of some hundred random members that are feasible, each is taken to be the one the others say least about
    (a D-optimal design, greedily). Fewer come back only where there are fewer.

    Raises:
        ImpossibleBudget: Nothing feasible was found.
    """
    pool = _pool(space, task, feasible or (lambda architecture: True), random.Random(seed))
    if not pool:
        raise ImpossibleBudget(
            f"no member of {space.name} within the budget was found to be timed; raise the budget", field="budget"
        )
    x_NF = featurise([space.count(member, task) for member in pool])
    macs_N = x_NF[:, [name.startswith("work_") for name in FEATURES]].sum(1)
    return [pool[i] for i in spread_out(x_NF, n, first=[int(macs_N.argmin()), int(macs_N.argmax())])]


def spread_out(x_NF: Floats, n: int, *, first: Sequence[int] = ()) -> list[int]:
    """Rows far apart in features and in their logarithms, so that small networks have a say beside large ones."""
    varies_F = np.ptp(x_NF, axis=0) > 0
    x_NF = x_NF[:, varies_F]
    both_NF = np.hstack([x_NF, np.log(x_NF + 0.1 * x_NF.mean(0))])
    both_NF = (both_NF - both_NF.mean(0)) / both_NF.std(0)
    both_NF = np.hstack([np.ones((len(both_NF), 1)), both_NF])
    chosen = list(dict.fromkeys(first))[:n]
    known_FF = 1e-2 * np.eye(both_NF.shape[1]) + both_NF[chosen].T @ both_NF[chosen]
    while len(chosen) < min(n, len(both_NF)):
        news_N = np.einsum("nf,fg,ng->n", both_NF, np.linalg.inv(known_FF), both_NF)
        news_N[chosen] = -1.0
        chosen.append(int(news_N.argmax()))
        known_FF += np.outer(both_NF[chosen[-1]], both_NF[chosen[-1]])
    return chosen


def _pool(space: Space, task: Task, feasible: Callable[[Architecture], bool], rng: random.Random) -> list[Architecture]:
    """Distinct feasible members: the extremes, random ones, and steps from those where random ones seldom are."""
    parameters = space.parameters(task)
    found: dict[tuple[int, ...], Architecture] = {}
    most = min(_POOL, space.cardinality(task))

    def look_at(member: Architecture) -> None:
        if feasible(member):
            found[tuple(member.values())] = member

    look_at(space.smallest(task))
    look_at(space.largest(task))
    for _ in range(_TRIES):
        if len(found) >= most:
            break
        look_at({p.name: rng.choice(p.values) for p in parameters})
    for _ in range(_TRIES):
        if len(found) >= most or not found:
            break
        member, moved = rng.choice(list(found.values())), rng.choice(parameters)
        look_at({**member, moved.name: rng.choice(moved.values)})
    return list(found.values())


def calibrate(
    space: Space,
    task: Task,
    device: str,
    batch: int,
    *,
    n: int = 20,
    seed: int = 0,
    threads: int = 1,
    cache: Path | None = None,
    feasible: Callable[[Architecture], bool] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Time `n` members of a space on a device and fit their latencies, or find that done before.

    Args:
        cache: Folder where calibrations lie, a JSON file each; None keeps nothing.
        feasible: Which members may be timed; None allows all.
        report: Called with the members timed and those to be timed, after each.

    Raises:
        InvalidRequest: No such device here, or a space too small to calibrate on.
        ImpossibleBudget: Nothing is feasible.
    """
    require_device(device)
    members = pick_members(space, task, feasible, n, seed)
    counts = [space.count(member, task) for member in members]
    if len(members) < FEWEST:
        raise InvalidRequest(
            f"{space.name} has {len(members)} members within the budget and at least {FEWEST} are timed; raise the "
            "budget or name another space",
            field="search.space",
        )
    path = None if cache is None else cache / f"latency-{_identity(space, task, device, batch, threads, members)}.json"
    latencies = _kept(path, len(members))
    if latencies is None:
        latencies = []
        for member in members:
            latencies.append(_time(space, task, member, device, batch, threads))
            if report is not None:
                report(len(latencies), len(members))
        _keep(path, latencies)
    predictor = fit(counts, [latency.median_ms for latency in latencies])
    return Calibration(space.name, device, batch, threads, tuple(members), tuple(latencies), predictor)


def _time(space: Space, task: Task, member: Architecture, device: str, batch: int, threads: int) -> Latency:
    import torch

    # The caller's random numbers are its own.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = space.build(member, task)
    return measure_latency(model, (task.in_chans, task.height, task.width), device, batch=batch, threads=threads)


def _identity(space: Space, task: Task, device: str, batch: int, threads: int, members: Sequence[Architecture]) -> str:
    """Everything latencies depend on. A space's models are named, for a teacher's own space has no fixed meaning."""
    models = [(model.name, dict(model.args)) for model in (space.model(member, task) for member in members)]
    shape = (task.classes, task.in_chans, task.height, task.width)
    bounds = [asdict(parameter) for parameter in space.parameters(task)]
    parts = [_VERSION, space.name, bounds, shape, device, batch, threads, describe_machine(), list(members), models]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _kept(path: Path | None, members: int) -> list[Latency] | None:
    if path is None:
        return None
    try:
        latencies = [Latency(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s cannot be read and is measured again: %s", path, error)
        return None
    return latencies if len(latencies) == members else None


def _keep(path: Path | None, latencies: Sequence[Latency]) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps([asdict(latency) for latency in latencies]))
    except OSError as error:
        log.warning("latencies cannot be kept in %s: %s", path.parent, error)
