"""A fitted predictor of latency: plain numbers that travel as JSON."""

# N members, F features

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from archsearch.errors import InvalidRequest
from archsearch.gaussian_process import squared_exponential
from archsearch.hardware.predict.features import FEATURES, Floats, features_of
from archsearch.spaces import Count

# Raise it when the same members would give other latencies or prices.
VERSION = 1

_COLUMNS = {name: i for i, name in enumerate(FEATURES)}
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
        return self.read(features_of(count))

    def predict_interval(self, count: Count) -> tuple[float, float]:
        """Where nine latencies in ten lie, by the errors on members left out of the fit."""
        milliseconds = self.predict(count)
        factor = math.exp(_NINETY * self.spread)
        return milliseconds / factor, milliseconds * factor

    def read(self, all_F: Floats) -> float:
        """Milliseconds of one batch of the network with these FEATURES."""
        x_F = all_F[self._columns]
        milliseconds = max(self.constant + float(x_F @ self._prices), self.floor_ms)
        if not self.weights:
            return milliseconds
        offsets_F, means_F, deviations_F, centres_NF, weights_N = self._correction
        z_F = (np.log(x_F + offsets_F) - means_F) / deviations_F
        near_N = squared_exponential(np.square(centres_NF - z_F).sum(1) / self.length**2)
        return milliseconds * math.exp(float(near_N @ weights_N))

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Predictor:
        """A predictor from `to_json`; raises InvalidRequest for anything else."""
        try:
            body = json.loads(text)
            version = body.pop("version")
            if version != VERSION:
                raise InvalidRequest(f"a predictor of version {version}; this is {VERSION}: calibrate again")
            lists = {name: tuple(value) for name, value in body.items() if isinstance(value, list)}
            lists["centres"] = tuple(tuple(centre) for centre in lists["centres"])
            found = cls(**{**body, **lists})
            found.predict(Count())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidRequest(f"no predictor: {error}; calibrate again") from None
        return found
