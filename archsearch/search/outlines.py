"""Plain ways to make a network smaller: all widths alike, all depths alike, fewer stages, and these together.

Where a candidate's score is measured on what it inherits, what is left whole is worth most; chance, which changes every
size at once, hardly ever leaves anything whole.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

from archsearch.hardware import fits
from archsearch.request import Architecture
from archsearch.search.repair import Members
from archsearch.spaces import Parameter

# Sizes a group of parameters may have, as shares of the way from the smallest to the largest.
_LEVELS = tuple(eighth / 8 for eighth in range(8, -1, -1))
# Groups beyond so many are left whole: their combinations are too many.
_MOST_GROUPS = 4


def outlines(members: Members) -> list[Architecture]:
    """Members within the budget that keep as much as they can of the largest, those that change least first.

    Parameters that differ in a number alone (`width1`, `width2`) change alike. None of them is within the budget with
    one of its groups a level larger.
    """
    groups = _groups(members.parameters)
    fitting = {levels for levels in itertools.product(_LEVELS, repeat=len(groups)) if _fits(members, groups, levels)}
    best = [levels for levels in fitting if not any(larger in fitting for larger in _larger(levels))]
    found: dict[tuple[int, ...], Architecture] = {}
    for levels in sorted(best, key=lambda levels: (len(levels) - sum(levels), levels)):
        architecture = members.canonical(_at(members.parameters, groups, levels))
        found.setdefault(tuple(architecture.values()), architecture)
    return [architecture for architecture in found.values() if members.within(architecture)]


def _groups(parameters: tuple[Parameter, ...]) -> list[str]:
    """Names of groups, those with the most to gain first."""
    sizes: dict[str, int] = {}
    for parameter in parameters:
        sizes[_group(parameter.name)] = sizes.get(_group(parameter.name), 0) + len(parameter.values) - 1
    return sorted(sizes, key=lambda name: (-sizes[name], name))[:_MOST_GROUPS]


def _group(name: str) -> str:
    return re.sub(r"\d+$", "", name)


def _fits(members: Members, groups: list[str], levels: tuple[float, ...]) -> bool:
    return fits(members.estimate(_at(members.parameters, groups, levels)), members.ruler.limits)


def _at(parameters: tuple[Parameter, ...], groups: list[str], levels: tuple[float, ...]) -> Architecture:
    shares: Mapping[str, float] = dict(zip(groups, levels, strict=True))
    return {
        parameter.name: parameter.values[round(shares.get(_group(parameter.name), 1.0) * (len(parameter.values) - 1))]
        for parameter in parameters
    }


def _larger(levels: tuple[float, ...]) -> Iterator[tuple[float, ...]]:
    """The same with one group a level larger."""
    for i, level in enumerate(levels):
        if level < 1.0:
            yield (*levels[:i], _LEVELS[_LEVELS.index(level) - 1], *levels[i + 1 :])
