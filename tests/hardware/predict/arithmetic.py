"""A device of arithmetic, and networks for it."""

from __future__ import annotations

from archsearch.domains.images.task import ImageTask
from archsearch.hardware.predict import pick_members
from archsearch.spaces import Count, Space


def device_ms(count: Count) -> float:
    """A device that is a sum: 10 µs a layer, 1 ms for 30M multiply-accumulates and for 5M activations, 0.2 ms more."""
    return 0.2 + 0.01 * sum(count.layers) + sum(count.work) / 30e6 + count.moved / 5e6


def counts(space: Space, task: ImageTask, seed: int, n: int = 20) -> list[Count]:
    return [space.count(member, task) for member in pick_members(space, task, None, n, seed)]
