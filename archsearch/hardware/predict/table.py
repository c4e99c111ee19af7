"""Latencies of a few networks that were all timed: nothing is predicted, a count is looked up."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from archsearch.errors import InvalidRequest
from archsearch.hardware.predict.features import features_of
from archsearch.hardware.predict.predictor import VERSION, Predictor
from archsearch.spaces import Count


@dataclass(frozen=True)
class Table:
    """Milliseconds of one batch by what a network is made of.

    Attributes:
        latencies_ms: By `key`.
    """

    latencies_ms: Mapping[str, float]

    def predict(self, count: Count) -> float:
        """Milliseconds of one batch; infinite where such a network was not timed."""
        return self.latencies_ms.get(key(count), math.inf)

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, "latencies_ms": dict(self.latencies_ms)})


def key(count: Count) -> str:
    """The same text for networks of the same layers, parameters and work."""
    return " ".join(f"{value:.0f}" for value in features_of(count))


def read_predictor(text: str) -> Predictor | Table:
    """What `to_json` of either wrote; raises InvalidRequest for anything else."""
    try:
        body = json.loads(text)
        if not isinstance(body, dict) or "latencies_ms" not in body:
            return Predictor.from_json(text)
        if body["version"] != VERSION:
            raise InvalidRequest(f"latencies of version {body['version']}; this is {VERSION}: time them again")
        return Table({name: float(value) for name, value in body["latencies_ms"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidRequest(f"no predictor: {error}; calibrate again") from None
