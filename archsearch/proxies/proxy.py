"""What a proxy is: a pure function of the evidence, with its source and its unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from archsearch.evidence import Evidence, Read
from archsearch.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Measure = Callable[[Evidence], "float | Tensor"]
F = TypeVar("F", bound=Measure)
Need = Literal["data", "labels", "gradients", "teacher"]


class Undefined(Exception):
    """A signal that does not exist for this candidate, with the reason; the candidate is never chosen."""


@dataclass(frozen=True)
class Proxy:
    """A zero-cost proxy.

    Attributes:
        measure: The proxy as published, from evidence to a number (0-d tensors may stay on their
            device); higher is better.
        needs: What the number depends on beyond the network itself.
        reads: The measurements it looks at, which are made for it; shapes are always there.
        magnitude: Whether it is a positive magnitude, whose vote in nats is its logarithm. Otherwise it votes as it is.
        source: Paper and equation.
    """

    name: str
    doc: str
    measure: Measure
    needs: frozenset[Need]
    reads: frozenset[Read]
    magnitude: bool
    source: str

    def defined_for(self, vocabulary: int) -> bool:
        """Whether it has a value where inputs are ids below `vocabulary`; 0 is numbers, which every proxy takes."""
        return not (vocabulary and self.reads & _OF_NUMBERS)

    def nats(self, value: float) -> float:
        """The proxy's vote; raises Undefined for a value nobody can vote with."""
        if not math.isfinite(value):
            raise Undefined(f"{self.name} is {value}")
        if not self.magnitude:
            return value
        if value <= 0:
            raise Undefined(f"{self.name} is {value}: no signal passes through the network")
        return math.log(value)


# Measurements that need an input of numbers.
_OF_NUMBERS: frozenset[Read] = frozenset({"synflow", "zen"})


# The files of this room that register one, each under its own name; a new file goes in here, too.
FILES = (
    "capacity",
    "cka",
    "class_relation",
    "cross_ntk",
    "depth",
    "diswot",
    "effective_rank",
    "encoder_size",
    "expressivity",
    "fisher",
    "grad_norm",
    "gradient_rank",
    "gradsign",
    "grasp",
    "hm",
    "isometry",
    "jacob_cov",
    "kd_psi",
    "kd_snip",
    "kernel_ridge",
    "macs",
    "minrank",
    "naswot",
    "params",
    "progressivity",
    "psi",
    "relation",
    "relation_last",
    "relative_snip",
    "semantic",
    "snip",
    "swap",
    "synflow",
    "trainability",
    "vkdnw",
    "zen",
    "zico",
)
proxies: Registry[Proxy] = Registry("proxy", "archsearch.proxies", FILES)


def proxy(*needs: Need, reads: Collection[Read] = (), magnitude: bool, source: str) -> Callable[[F], F]:
    """Register a function under its own name."""

    def register(measure: F) -> F:
        doc = (measure.__doc__ or "").strip().splitlines()[0]
        name = measure.__name__
        proxies.add(name, Proxy(name, doc, measure, frozenset(needs), frozenset(reads), magnitude, source))
        return measure

    return register
