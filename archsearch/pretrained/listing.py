"""Networks with weights as people look at them: which there are, from where, and what each costs at some size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from archsearch.domains.images.task import ImageTask
from archsearch.errors import public
from archsearch.pretrained.facts import Facts, kept
from archsearch.pretrained.stored import Stored


@dataclass(frozen=True)
class Listed:
    """A network with weights, for a task of some size.

    Attributes:
        name: As a request names it (`search.pretrained`).
        source: `hub` for the hub's cache on this machine, `folder` for the folder that was set up.
        refuses: Why it is none for such images; all that follows is empty then, but the weights' size.
    """

    name: str
    source: str
    weights_bytes: int
    refuses: str | None = None
    architecture: str | None = None
    stock_timm: bool | None = None
    params: int | None = None
    macs: int | None = None
    trained_on: tuple[int, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    licence: str | None = None


def listed(
    stored: Sequence[Stored],
    task: ImageTask,
    cache: Path,
    look: Callable[[Stored, ImageTask, Path], Facts | str | None] = kept,
) -> list[Listed]:
    """Every network with what is known of it, by name.

    Args:
        look: What tells the facts of one; by default what was found out before, which needs no torch.
    """
    return [_row(one, look(one, task, cache)) for one in sorted(stored, key=lambda one: one.label)]


def _row(stored: Stored, found: Facts | str | None) -> Listed:
    source = "folder" if stored.source.startswith("local-dir:") else "hub"
    size = stored.weights.stat().st_size
    if not isinstance(found, Facts):
        reason = "nobody has looked at it yet" if found is None else public(found)
        return Listed(stored.label, source, size, refuses=reason)
    return Listed(
        stored.label,
        source,
        size,
        architecture=found.architecture,
        stock_timm=found.stock,
        params=found.count.params,
        macs=found.count.macs,
        trained_on=found.input_size,
        mean=found.mean,
        std=found.std,
        licence=found.licence,
    )
