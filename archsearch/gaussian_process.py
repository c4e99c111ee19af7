"""A Gaussian process of mean 0 and the likeliest variance: it guesses scores, and what prices of latency leave over.

Squared distances come in whatever scale the caller thinks in. Equations are Rasmussen and Williams's (2006).
"""

# N observations, M places where nothing was observed

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Observations that are all 0 have no variance, and its logarithm is needed.
_LEAST_VARIANCE = 1e-12


def squared_exponential(squares: Floats) -> Floats:
    """Eq. 4.9 of squared distances in lengths."""
    found: Floats = np.exp(-0.5 * squares)
    return found


def matern52(squares: Floats) -> Floats:
    """Matérn's kernel of ν = 5/2, eq. 4.17, of squared distances in lengths."""
    distance = np.sqrt(5 * squares)
    found: Floats = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return found


def log_likelihood(kernel_NN: Floats, y_N: Floats) -> float:
    """How likely the observations are, but for a constant (eq. 5.8), at the variance under which they are likeliest.

    Args:
        kernel_NN: With the noise on its diagonal, in shares of the variance.
    """
    half_NN = np.linalg.cholesky(kernel_NN)
    variance = np.square(np.linalg.solve(half_NN, y_N)).mean() + _LEAST_VARIANCE
    return float(-0.5 * len(y_N) * np.log(variance) - np.log(np.diag(half_NN)).sum())


def posterior(kernel_NN: Floats, kernel_NM: Floats, y_N: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation at M places (eq. 2.25 and 2.26), at the likeliest variance.

    Args:
        kernel_NN: With the noise on its diagonal.
        kernel_NM: From the observations to the places, 1 at distance 0.
    """
    solved = np.linalg.solve(kernel_NN, np.column_stack([y_N, kernel_NM]))
    mean_M = kernel_NM.T @ solved[:, 0]
    variance = max(float(y_N @ solved[:, 0]) / len(y_N), _LEAST_VARIANCE)
    variance_M = variance * np.maximum(1.0 - (kernel_NM * solved[:, 1:]).sum(0), 1e-9)
    return mean_M, np.sqrt(variance_M)
