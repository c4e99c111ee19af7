"""A Gaussian process guesses scores of candidates from their parameters and their cost in closed form.

It decides which of many cheap proposals is worth a look; it never replaces a score.
"""

# N trials, M candidates, F features

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from threadpoolctl import ThreadpoolController

from archsearch.gaussian_process import Floats, log_likelihood, matern52, posterior
from archsearch.request import Architecture
from archsearch.search.repair import Members

# A parameter of so few values may well be a category: each value is a feature beside the parameter itself.
_CATEGORICAL = 6
# Tried by marginal likelihood: how far a change of parameters reaches, the same for cost, the noise's variance.
_REACH = (0.5, 1.0, 2.0)
_COST_REACH = (1.0, 4.0)
_NOISE = (0.001, 0.01, 0.1)
# Scores below this quantile are alike to a search (broken networks score anything), and all but the best so many.
_FLOOR = 0.25
_TOLD_APART = 64


@dataclass(frozen=True)
class Features:
    """Columns of the parameters of all spaces, then of the costs. A parameter of another space is at its middle, 0."""

    spaces: Mapping[str, Members]

    def of(self, candidates: Sequence[tuple[str, Architecture]]) -> tuple[Floats, Floats]:
        """Two arrays, candidates × features: of parameters, and of costs."""
        rows, costs = [], []
        for name, architecture in candidates:
            row: list[float] = []
            for other, members in self.spaces.items():
                here = other == name
                if len(self.spaces) > 1:
                    row.append(1.0 if here else 0.0)
                for p in members.parameters:
                    values, span = p.values, len(p.values) - 1
                    place = values.index(architecture[p.name]) if here else -1
                    row.append(place / span - 0.5 if here and span else 0.0)
                    if 2 < len(values) <= _CATEGORICAL:
                        row += [math.sqrt(0.5) if i == place else 0.0 for i in range(len(values))]
            rows.append(row)
            cost = self.spaces[name].estimate(architecture)
            costs.append([math.log(cost.params), math.log(max(1, cost.macs))])
        return np.array(rows, dtype=float), np.array(costs, dtype=float)


@dataclass(frozen=True)
class Reach:
    """The process's own parameters."""

    reach: float = 1.0
    cost_reach: float = 2.0
    noise: float = 0.03


def choose_reach(x: tuple[Floats, Floats], y_N: Floats) -> Reach:
    """The one of a few under which the scores are likeliest."""
    squares, z_N = _squares(x, x, x), _normal(y_N)

    def likelihood(reach: Reach) -> float:
        return log_likelihood(_kernel(squares, reach) + reach.noise * np.eye(len(z_N)), z_N)

    return max((Reach(*chosen) for chosen in product(_REACH, _COST_REACH, _NOISE)), key=likelihood)


def guess(
    x: tuple[Floats, Floats], y_N: Floats, candidates: tuple[Floats, Floats], reach: Reach
) -> tuple[Floats, Floats, float]:
    """Mean and deviation of each candidate's score, and the best seen, on the process's own scale."""
    z_N = _normal(y_N)
    k_NN = _kernel(_squares(x, x, x), reach) + reach.noise * np.eye(len(z_N))
    k_NM = _kernel(_squares(x, candidates, x), reach)
    return *posterior(k_NN, k_NM, z_N), float(z_N.max())


def believed(x: tuple[Floats, Floats], y_N: Floats, candidates: tuple[Floats, Floats], reach: Reach) -> Floats:
    """Mean of each candidate's score, on the scores' own scale."""
    mean_M, _, _ = guess(x, y_N, candidates, reach)
    cut_N = _cut(y_N)
    found: Floats = cut_N.mean() + max(float(cut_N.std()), 1e-9) * mean_M
    return found


def expected_improvement(mean_M: Floats, deviation_M: Floats, best: float) -> Floats:
    """How much of a gain over the best is to be expected (Jones et al. 1998, eq. 15)."""
    gain_M = mean_M - best
    u_M = gain_M / deviation_M
    density_M = np.exp(-0.5 * u_M**2) / math.sqrt(2 * math.pi)
    below_M = np.array([0.5 * math.erfc(-u / math.sqrt(2)) for u in u_M])
    found: Floats = gain_M * below_M + deviation_M * density_M
    return found


@cache
def one_thread() -> ThreadpoolController:
    """Limits threads of linear algebra.

    On matrices of a hundred rows they cost more than they bring, up to eight times more on a busy machine.
    """
    return ThreadpoolController()


def _cut(y_N: Floats) -> Floats:
    """Scores, none of which is below what is worthless."""
    found: Floats = np.maximum(y_N, np.quantile(y_N, max(_FLOOR, 1 - _TOLD_APART / len(y_N))))
    return found


def _normal(y_N: Floats) -> Floats:
    """Scores with what is worthless cut off, at mean 0 and deviation 1."""
    cut_N = _cut(y_N)
    found: Floats = (cut_N - cut_N.mean()) / max(float(cut_N.std()), 1e-9)
    return found


def _squares(a: tuple[Floats, Floats], b: tuple[Floats, Floats], told: tuple[Floats, Floats]) -> list[Floats]:
    """Squared distances in parameters and in costs, each scaled so that the trials' own are about 1."""
    found = []
    for a_NF, b_MF, told_NF in zip(a, b, told, strict=True):
        spread_F = told_NF.var(0)
        size = 2 * max(float(spread_F.sum()), 1e-9)
        square = (a_NF**2).sum(1)[:, None] + (b_MF**2).sum(1)[None] - 2 * a_NF @ b_MF.T
        found.append(np.maximum(square, 0.0) / size)
    return found


def _kernel(squares: list[Floats], reach: Reach) -> Floats:
    return matern52(squares[0] / reach.reach**2 + squares[1] / reach.cost_reach**2)
