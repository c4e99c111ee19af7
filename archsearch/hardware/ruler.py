"""One ruler for all candidates of a search: their cost in every unit the budget names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from archsearch import domains
from archsearch.data.task import Task
from archsearch.hardware.budget import UNLIMITED, Limits
from archsearch.hardware.meta import measure_model, on_meta, peak_activation_bytes
from archsearch.request import Architecture, SizePrecision
from archsearch.spaces import Cost, Count, Space

_BYTES = {"fp32": 4, "fp16": 2}


class Predictor(Protocol):
    """Predicts the latency of a space's members from their counts."""

    def predict(self, count: Count) -> float:
        """Milliseconds of one batch."""


@dataclass(frozen=True)
class Ruler:
    """What candidates are measured by.

    Attributes:
        limits: The budget in absolute numbers.
        size_precision: Of the weights whose bytes are limited.
        batch: Images in the batch whose activations and latency are limited.
        predictors: A predictor of latency for each space, where latency is limited or traded.
        trade: A cost to be known of every candidate although nothing limits it.
    """

    task: Task
    limits: Limits = UNLIMITED
    size_precision: SizePrecision = "fp32"
    batch: int = 1
    predictors: Mapping[str, Predictor] = field(default_factory=dict)
    trade: str | None = None

    def estimate(self, space: Space, architecture: Architecture) -> Cost:
        """In closed form, in microseconds: exact but for latency, which is predicted, and activations (see Count)."""
        count = space.count(architecture, self.task)
        predictor = self.predictors.get(space.name)
        return Cost(
            params=count.params,
            macs=count.macs,
            size_bytes=size_bytes(count, self.size_precision),
            peak_activation_bytes=4 * self.batch * count.peak if self._wants("peak_activation_bytes") else None,
            latency_ms=predictor.predict(count) if predictor is not None else None,
        )

    def measure(self, space: Space, architecture: Architecture) -> Cost:
        """As `estimate`, with activations counted on the meta device where they are limited."""
        cost = self.estimate(space, architecture)
        if not self._wants("peak_activation_bytes"):
            return cost
        return replace(cost, peak_activation_bytes=peak_activation_bytes(space, architecture, self.task, self.batch))

    def _wants(self, name: str) -> bool:
        return name in self.limits.given() or name == self.trade


def size_bytes(count: Count, precision: SizePrecision) -> int:
    """Bytes of the stored weights and buffers, file headers apart.

    int8 stores weight matrices in one byte each and a scale of four bytes for each of their outputs; biases, norms and
    embeddings stay fp32, as ONNX Runtime's static quantisation leaves them.
    """
    if precision == "int8":
        return count.matrix + 4 * (count.rows + count.params - count.matrix + count.buffers) + 8 * count.counters
    return _BYTES[precision] * (count.params + count.buffers) + 8 * count.counters


def measure_exactly(space: Space, architecture: Architecture, ruler: Ruler) -> Cost:
    """A cost as torch counts it on the network itself, and its state's bytes; latency is left out.

    Bytes in int8 follow from the closed form: what is quantised is decided by an exporter.
    """
    task, closed = ruler.task, ruler.estimate(space, architecture)
    model = on_meta(space, architecture, task)
    counted = measure_model(model, domains.of(task).shape(task))
    half = 2 if ruler.size_precision == "fp16" else 1
    stored = sum(v.nbytes // (half if v.is_floating_point() else 1) for v in model.state_dict().values())
    peak = closed.peak_activation_bytes
    return replace(
        counted,
        size_bytes=closed.size_bytes if ruler.size_precision == "int8" else stored,
        peak_activation_bytes=None if peak is None else peak_activation_bytes(space, architecture, task, ruler.batch),
    )
