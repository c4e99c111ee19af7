"""Members of a space within the budget: proposals are mended until they fit, and what is left can be listed.

Costs rise and fall with the parameters in no fixed way (categories, group widths, patches; latency is a prediction), so
nothing here relies on "less is cheaper". A proposal that is too dear is drawn towards a member that fits until it fits
too, which a bisection finds in a handful of estimates however far away it is.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from archsearch.hardware import Ruler, excess, fits, nearest
from archsearch.request import Architecture
from archsearch.spaces import Cost, Space

# The edge is found to within a 32nd of the way.
_BISECTIONS = 5
# Parameters that are raised again after the way down, so that proposals end on the budget's edge.
_RAISED = 8
# Exact counts that may contradict the estimate before a proposal is given up for the known member that fits.
_CONFIRMATIONS = 4
# Spaces up to this size are listed member by member; it takes a few seconds at most.
_LISTED = 20_000
# Members counted exactly in search of one that fits, where the closed form is too hopeful.
_COUNTED = 60


class Members:
    """The members of one space within a ruler's limits. Remembers costs; what it answers depends on none of that."""

    def __init__(self, space: Space, ruler: Ruler) -> None:
        self.space = space
        self.ruler = ruler
        self.parameters = space.parameters(ruler.task)
        self._names = [parameter.name for parameter in self.parameters]
        self._estimates: dict[tuple[int, ...], Cost] = {}
        self._exact: dict[tuple[int, ...], Cost] = {}
        self._list: list[Architecture] | None = None
        # Activations are bounded in closed form and counted on the meta device.
        self._confirms = ruler.limits.peak_activation_bytes is not None
        self.anchor = self._find_anchor()

    def draw(self, rng: random.Random) -> Architecture:
        """Any member, within the budget or not."""
        return {parameter.name: rng.choice(parameter.values) for parameter in self.parameters}

    def estimate(self, architecture: Architecture) -> Cost:
        values = self._values(architecture)
        if values not in self._estimates:
            self._estimates[values] = self.ruler.estimate(self.space, architecture)
        return self._estimates[values]

    def measure(self, architecture: Architecture) -> Cost:
        if not self._confirms:
            return self.estimate(architecture)
        values = self._values(architecture)
        if values not in self._exact:
            self._exact[values] = self.ruler.measure(self.space, architecture)
        return self._exact[values]

    def within(self, architecture: Architecture) -> bool:
        """Whether an architecture holds the limits, by the exact count."""
        limits = self.ruler.limits
        return fits(self.estimate(architecture), limits) and fits(self.measure(architecture), limits)

    def mend(
        self,
        architecture: Architecture,
        rng: random.Random,
        towards: Architecture | None = None,
        *,
        exactly: bool = True,
    ) -> Architecture | None:
        """The architecture, or one near it that holds the limits; None when none of the space does.

        Every parameter moves towards those of a member that fits, each at a pace of its own, and a bisection finds
        where the limits begin to hold; then some are moved back as far as the limits allow, in random order. What
        comes out lies on the budget's edge, on a side that chance chose. About twenty estimates.

        Args:
            towards: A member that fits; by default the one nearest to the smallest.
            exactly: Whether activations are counted on the meta device, a few hundredths of a second each time, or the
                closed form is enough for now.
        """
        anchor = towards or self.anchor
        if anchor is None:
            return None
        # How far the closed form is below the exact count where this has been looked at.
        peak = 1.0
        for _ in range(_CONFIRMATIONS):
            mended = self._drawn(architecture, anchor, rng, peak)
            if not (self._confirms and exactly) or fits(self.measure(mended), self.ruler.limits):
                return mended
            exact, guess = self.measure(mended).peak_activation_bytes, self.estimate(mended).peak_activation_bytes
            peak = max(1.05 * peak, (exact or 1) / (guess or 1))
        return dict(anchor)

    def canonical(self, architecture: Architecture) -> Architecture:
        """The one that stands for all of the same network."""
        return architecture if self.space.canonical is None else self.space.canonical(architecture)

    def around(self, architecture: Architecture, rng: random.Random) -> Iterator[Architecture]:
        """All that differ from it in one parameter, in random order."""
        steps = [(p.name, value) for p in self.parameters for value in p.values if value != architecture[p.name]]
        for name, value in rng.sample(steps, len(steps)):
            yield {**architecture, name: value}

    def listed(self, rng: random.Random) -> Iterator[Architecture] | None:
        """All members within the budget in random order, or None where the space is too large to list."""
        if self.space.cardinality(self.ruler.task) > _LISTED:
            return None
        if self._list is None:
            chosen = itertools.product(*(parameter.values for parameter in self.parameters))
            everyone = (dict(zip(self._names, values, strict=True)) for values in chosen)
            self._list = [a for a in everyone if fits(self.estimate(a), self.ruler.limits)]
        return (dict(a) for a in rng.sample(self._list, len(self._list)) if self.within(a))

    def _drawn(self, wanted: Architecture, anchor: Architecture, rng: random.Random, peak: float) -> Architecture:
        if self._holds(wanted, peak):
            return dict(wanted)
        # A parameter of pace 3 has arrived after a third of the way.
        pace = {name: rng.choice((1.0, 1.0, 1.5, 3.0)) for name in self._names}

        def along(share: float) -> Architecture:
            return {
                p.name: _between(wanted[p.name], anchor[p.name], min(1.0, share * pace[p.name]), p.values)
                for p in self.parameters
            }

        low, high, best = 0.0, 1.0, dict(anchor)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            here = along(middle)
            if self._holds(here, peak):
                high, best = middle, here
            else:
                low = middle
        moved = [p for p in self.parameters if best[p.name] != wanted[p.name]]
        for parameter in rng.sample(moved, min(_RAISED, len(moved))):
            for share in (0.0, 0.5):
                value = _between(wanted[parameter.name], best[parameter.name], share, parameter.values)
                there = {**best, parameter.name: value}
                if value != best[parameter.name] and self._holds(there, peak):
                    best = there
                    break
        return best

    def _holds(self, architecture: Architecture, peak: float) -> bool:
        cost = self.estimate(architecture)
        if cost.peak_activation_bytes is not None and peak > 1:
            cost = replace(cost, peak_activation_bytes=int(peak * cost.peak_activation_bytes))
        return fits(cost, self.ruler.limits)

    def _find_anchor(self) -> Architecture | None:
        """A member that fits, or None."""
        limits, task = self.ruler.limits, self.ruler.task
        for price in (self.ruler.estimate, self.ruler.measure) if self._confirms else (self.ruler.estimate,):
            # Counting on the meta device takes a twentieth of a second each time.
            found, _ = nearest(
                self.space, task, price, limits, most=10**9 if price == self.ruler.estimate else _COUNTED
            )
            if excess(self.measure(found), limits) == 0:
                return found
        return None

    def _values(self, architecture: Architecture) -> tuple[int, ...]:
        return tuple(architecture[name] for name in self._names)


def _between(start: int, end: int, share: float, values: Sequence[int]) -> int:
    """The value of a parameter that is nearest to `share` of the way from one of its values to another."""
    first, last = values.index(start), values.index(end)
    return values[round(first + share * (last - first))]
