"""Students of a teacher's own kind: what a family says of a teacher it recognises, and sizes in eighths of its."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from archsearch.request import Architecture
from archsearch.spaces.count import Count
from archsearch.spaces.space import Parameter, Recipe

EIGHTHS = 8

# Of each stage, its blocks by number: those that are kept first, first.
Order = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Kin:
    """What becomes a `Space` of a teacher's own kind; the largest member is the teacher's size.

    Attributes:
        name: What people call the kind; timm's networks say it themselves.
        cut: The family as it is cut out of the teacher, where that takes more to say than sizes: of each stage, the
            teacher's blocks in the order in which they are kept. Without it, any blocks of a stage are alike.
        canonical: See `Space`.
    """

    parameters: Callable[[Any], tuple[Parameter, ...]]
    model: Callable[[Architecture, Any], Recipe]
    count: Callable[[Architecture, Any], Count]
    optimizer: Literal["sgd", "adamw"]
    learns_from: int = 0
    name: str = ""
    domain: str = "image_classification"
    cut: Callable[[Order], Kin] | None = None
    canonical: Callable[[Architecture], Architecture] | None = None


def share(name: str, whole: int, unit: int, doc: str) -> Parameter:
    """Eighths of `whole`, in steps that are a `unit` at least, so that each value is another width."""
    step = next((step for step in (1, 2, 4) if whole * step >= unit * EIGHTHS), EIGHTHS)
    return Parameter(name, step, EIGHTHS, step, f"{doc}, in eighths of the teacher's {whole}")


def eighths(whole: int, parts: int, unit: int) -> int:
    """So many eighths of `whole`, to the nearest multiple of `unit`; all eight are `whole` itself."""
    return whole if parts == EIGHTHS else max(unit, round(whole * parts / (EIGHTHS * unit)) * unit)
