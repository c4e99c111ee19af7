"""Whether a teacher's answers would be far better in another order: a head whose outputs were numbered otherwise."""

# N images, K classes

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsearch.data.task import Labels
from archsearch.teachers.classes import Order, natural_order, ranks

# Standard errors a better order has to stand out by, and points of accuracy: luck finds neither.
_SIGMAS = 4.0
_POINTS = 5.0
# Of more classes the assignment would take seconds and gigabytes.
_MOST = 2_000
_SHOWN = 3

Numbers = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Better:
    """An order that makes clearly more answers right.

    Attributes:
        order: For every class the output that means it.
        own, other: Accuracy in percent in the teacher's own order and in this one, of the same images.
        named: What `teacher.classes` calls the order; None for one that was found by trying.
    """

    order: Order
    own: float
    other: float
    named: str | None

    def hides(self, chance: float) -> bool:
        """Whether the teacher's own order hides more than half of what it knows beyond `chance`, in percent."""
        return self.own - chance < (self.other - chance) / 2

    def describe(self, names: tuple[str, ...]) -> str:
        """The order in words, with the field that sets it."""
        if self.named is not None:
            listing = (
                natural_order(names) if self.named == "natural" else sorted(range(len(names)), key=lambda k: names[k])
            )
            shown = ", ".join(names[k] for k in listing[:4])
            return f"{self.named} order ({shown}, …): set teacher.classes to {self.named!r}"
        moved = [(k, output) for k, output in enumerate(self.order) if k != output]
        called = names or tuple(map(str, range(len(self.order))))
        pairs = ", ".join(f"{called[k]!r}: {output}" for k, output in moved[:_SHOWN])
        more = ", …" if len(moved) > _SHOWN else ""
        return f"another order ({len(moved)} classes moved): set teacher.classes to {{{pairs}{more}}}"


def better_order(answer_N: Numbers, y_N: Labels, names: tuple[str, ...], classes: int) -> Better | None:
    """The order of the outputs that stands out, if any does.

    The natural and the sorted order of the classes' names are tried first. Any other is the best assignment on one half
    of the images, and has to stand out on the other half, so that nothing is found in noise.
    """
    for order, named in _listed(names):
        if (better := _judged(order, named, answer_N, y_N)) is not None:
            return better
    if classes > _MOST:
        return None
    first, second = _halves(y_N)
    if _judged(_assigned(answer_N[first], y_N[first], classes), None, answer_N[second], y_N[second]) is None:
        return None
    return _judged(_assigned(answer_N, y_N, classes), None, answer_N, y_N)


def _listed(names: tuple[str, ...]) -> Iterator[tuple[Order, str]]:
    """Orders that heads are numbered in, with what `teacher.classes` calls them."""
    yield ranks(natural_order(names)), "natural"
    yield ranks(sorted(range(len(names)), key=lambda k: names[k])), "sorted"


def _judged(order: Order, named: str | None, answer_N: Numbers, y_N: Labels) -> Better | None:
    """The order, if it makes clearly more of these answers right than the teacher's own."""
    if not order:
        return None
    own_N, other_N = answer_N == y_N, answer_N == np.asarray(order)[y_N]
    # McNemar 1947: images only one of the two orders has right.
    gained, lost = int((other_N & ~own_N).sum()), int((own_N & ~other_N).sum())
    better = Better(order, 100 * float(own_N.mean()), 100 * float(other_N.mean()), named)
    clear = gained - lost >= _SIGMAS * math.sqrt(max(1, gained + lost)) and better.other - better.own >= _POINTS
    return better if clear else None


def _assigned(answer_N: Numbers, y_N: Labels, classes: int) -> Order:
    """The assignment of outputs to classes that makes most answers right (Kuhn 1955)."""
    from scipy.optimize import linear_sum_assignment

    cells = y_N.astype(np.int64) * classes + answer_N
    right_KK = np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
    # Where the images do not tell, an output stays the class it was.
    _, order = linear_sum_assignment(right_KK + 0.5 * np.eye(classes), maximize=True)
    return tuple(map(int, order))


def _halves(y_N: Labels) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows of two halves of the images, each with half of every class."""
    by_class = np.argsort(y_N, kind="stable")
    return np.sort(by_class[::2]), np.sort(by_class[1::2])
