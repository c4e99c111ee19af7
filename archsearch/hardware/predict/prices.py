"""What a device asks for each feature's unit: least squares of relative errors."""

# N members, F features, M prices (with the constant)

from __future__ import annotations

import numpy as np

from archsearch.hardware.predict.features import Floats

# Of the squared relative error: a price that is as far from its equal share as that share is large costs so much.
_RIDGE = 1e-3


def fit_prices(x_NF: Floats, y_N: Floats, signed: bool) -> Floats:
    """The constant and the prices that minimise squared relative errors, with a ridge toward equal shares."""
    share_NM = np.column_stack([np.ones(len(y_N)), x_NF]) / y_N[:, None]
    # In units of its mean share of latency every column has the same say.
    mean_M = share_NM.mean(0)
    share_NM = share_NM / mean_M
    members, columns = share_NM.shape
    pull = _RIDGE * members
    gram_MM = share_NM.T @ share_NM + pull * np.eye(columns)
    target_M = share_NM.sum(0) + pull / columns
    found_M = np.linalg.solve(gram_MM, target_M) if signed else non_negative(gram_MM, target_M)
    prices_M: Floats = found_M / mean_M
    return prices_M


def non_negative(gram_MM: Floats, target_M: Floats) -> Floats:
    """argmin of ½ wᵀ G w − tᵀ w over w ≥ 0, for G positive definite (Lawson and Hanson 1974, ch. 23)."""
    w_M = np.zeros(len(target_M))
    free_M = np.zeros(len(target_M), bool)
    for _ in range(10 * len(target_M)):
        gain_M = np.where(free_M, -np.inf, target_M - gram_MM @ w_M)
        if gain_M.max() <= 1e-10 * np.abs(target_M).max():
            break
        free_M[gain_M.argmax()] = True
        while True:
            goal_M = np.zeros(len(target_M))
            goal_M[free_M] = np.linalg.solve(gram_MM[np.ix_(free_M, free_M)], target_M[free_M])
            low_M = free_M & (goal_M <= 0)
            if not low_M.any():
                w_M = goal_M
                break
            # As far toward the goal as the first weight that would turn negative allows.
            step = (w_M[low_M] / (w_M[low_M] - goal_M[low_M])).min()
            w_M = w_M + step * (goal_M - w_M)
            free_M &= w_M > 1e-12
            w_M[~free_M] = 0.0
    return w_M
