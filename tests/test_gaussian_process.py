from __future__ import annotations

import math

import numpy as np
import pytest

from archsearch.gaussian_process import log_likelihood, matern52, posterior, squared_exponential


def test_kernels_by_hand() -> None:
    assert squared_exponential(np.array([0.0, 4.0])) == pytest.approx([1.0, math.exp(-2)])
    # At distance 2/√5 the scaled distance is 2: (1 + 2 + 4/3)·e⁻².
    assert matern52(np.array([0.0, 0.8])) == pytest.approx([1.0, 13 / 3 * math.exp(-2)])


def test_a_posterior_by_hand() -> None:
    # One observation 3, noise 1: half of it is believed at a correlation of 1, a quarter at one of 1/2.
    mean_M, deviation_M = posterior(np.array([[2.0]]), np.array([[1.0, 0.5, 0.0]]), np.array([3.0]))
    assert mean_M == pytest.approx([1.5, 0.75, 0.0])
    # The likeliest variance is 3²/2, and what the observation leaves of it 1 − 1/2, 1 − 1/8 and all.
    assert deviation_M**2 == pytest.approx([2.25, 4.5 * 0.875, 4.5])


def test_a_likelihood_is_that_of_the_normal_law_at_its_likeliest_variance() -> None:
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(0)
    y_N, known = rng.normal(size=6), None
    for length in (0.5, 1.0, 2.0):
        places_N = np.linspace(0, 3, 6)
        kernel_NN = squared_exponential(np.square(places_N[:, None] - places_N) / length**2) + 0.1 * np.eye(6)
        variance = float(y_N @ np.linalg.solve(kernel_NN, y_N)) / 6
        density = multivariate_normal(np.zeros(6), variance * kernel_NN).logpdf(y_N)
        constant = density - log_likelihood(kernel_NN, y_N)
        known = constant if known is None else known
        assert constant == pytest.approx(known)


def test_observations_that_are_all_nothing_do_no_harm() -> None:
    mean_M, deviation_M = posterior(1.1 * np.eye(3), np.zeros((3, 2)), np.zeros(3))
    assert np.isfinite([log_likelihood(1.1 * np.eye(3), np.zeros(3)), *mean_M, *deviation_M]).all()
