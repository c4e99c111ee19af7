"""The statistics that scores are judged by, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ranking import judge, partial, regret, untied


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


def test_equal_scores_are_put_in_order_of_parameters() -> None:
    assert untied(array(2, 1, 1, 1), array(5, 3, 9, 4)).tolist() == [3, 0, 2, 1]


def test_networks_equal_in_score_and_parameters_stay_tied() -> None:
    assert untied(array(2, 1, 1, 1), array(5, 3, 9, 3)).tolist() == [2, 0, 1, 0]


def test_networks_without_a_score_come_last() -> None:
    assert untied(array(-np.inf, -1e9, -np.inf), array(9, 1, 8)).tolist() == [1, 2, 0]


def test_regret_is_the_gap_between_the_best_and_the_pick() -> None:
    assert regret(array(0, 1, 2), array(70, 60, 65)) == 5
    assert regret(array(2, 1, 0), array(70, 60, 65)) == 0


def test_networks_that_share_the_first_place_share_the_pick() -> None:
    assert regret(array(0, 1, 2, 2), array(70, 60, 65, 63)) == 6


def test_partial_rho_by_hand() -> None:
    # Spearman: .6 between values and accuracy, 0 and −.8 with what is given; .6 / √(1 − .64) = 1.
    assert partial(array(1, 2, 3, 4), array(2, 1, 4, 3), array(2, 4, 1, 3)) == pytest.approx(1)
    # Ranks alone count.
    assert partial(array(1, 20, 300, 4000), array(2, 1, 40, 3), array(20, 40, -1, 30)) == pytest.approx(1)


def test_partial_rho_of_what_is_given_anyway_is_zero() -> None:
    assert partial(array(1, 2, 3, 4), array(2, 1, 4, 3), array(10, 20, 30, 40)) == 0


def test_a_ranking_with_its_two_best_swapped() -> None:
    ranks_N = np.arange(10.0)
    accuracy_N = array(0, 1, 2, 3, 4, 5, 6, 7, 9, 8)
    figures = judge(ranks_N, accuracy_N, params_N=ranks_N)
    # One pair of 45 stands the wrong way round; the best fifth is that pair.
    assert figures["tau"] == pytest.approx(43 / 45)
    assert figures["rho"] == pytest.approx(1 - 6 * 2 / (10 * 99))
    assert figures["tau_top20"] == pytest.approx(-1)
    assert figures["regret"] == 1
    assert figures["partial_rho"] == 0, "the score is the parameter count"
    assert figures["bin_regret"] == 0, "each bin holds one network"


def test_bin_regret_is_the_mean_over_budgets() -> None:
    # Ten bins of two, the second always picked: in one bin three points below the first, in another one point.
    params_N = ranks_N = np.arange(20.0)
    accuracy_N = 50 + params_N
    accuracy_N[[0, 1]] = 53, 50
    accuracy_N[[10, 11]] = 61, 60
    order = np.random.default_rng(0).permutation(20)
    figures = judge(ranks_N[order], accuracy_N[order], params_N[order])
    assert figures["bin_regret"] == pytest.approx((3 + 1) / 10)
    assert figures["regret"] == 0
