from __future__ import annotations

import numpy as np

from archsearch.hardware.predict.prices import non_negative


def test_non_negative_least_squares_by_hand() -> None:
    # ½‖w − (2, −1)‖² has its least at (2, −1), and at (2, 0) where weights may not be negative.
    assert non_negative(np.eye(2), np.array([2.0, -1.0])).tolist() == [2.0, 0.0]


def test_non_negative_least_squares_agrees_with_scipy() -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    for _ in range(50):
        a_NM, b_N = rng.normal(size=(20, 8)), rng.normal(size=20)
        found_M = non_negative(a_NM.T @ a_NM, a_NM.T @ b_N)
        assert np.allclose(found_M, nnls(a_NM, b_N)[0], atol=1e-8)
