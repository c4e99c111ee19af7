"""Each score against a reference that is slow and plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.linear_model import Ridge

from archsearch.inherit.start import divergence
from archsearch.pretrained import known, logme
from archsearch.ridge import RIDGES

# N examples, D features, K classes


def drawn(n: int = 24, d: int = 6, k: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and a teacher's logits that they tell in part."""
    generator = torch.Generator().manual_seed(0)
    x_ND = torch.randn(n, d, generator=generator)
    logits_NK = 2 * x_ND @ torch.randn(d, k, generator=generator) + torch.randn(n, k, generator=generator)
    return x_ND, logits_NK


def left_out(x_ND: np.ndarray, y_NK: np.ndarray, ridge: float) -> torch.Tensor:
    """What fits of all the others say of each."""
    said = []
    for i in range(len(x_ND)):
        others = np.arange(len(x_ND)) != i
        said.append(Ridge(alpha=ridge, solver="svd").fit(x_ND[others], y_NK[others]).predict(x_ND[[i]])[0])
    return torch.tensor(np.array(said))


def test_nats_are_those_of_the_ridge_that_leaves_least_by_really_leaving_one_out() -> None:
    x_ND, logits_NK = drawn()
    found = known(x_ND, logits_NK, "classification")
    x, y = x_ND.double().numpy(), (logits_NK.double() - logits_NK.double().mean(1, keepdim=True)).numpy()
    spread = float(np.square(x - x.mean(0)).sum())
    nats = {share: divergence(logits_NK.double(), left_out(x, y, share * spread), "classification") for share in RIDGES}
    assert found.nats == pytest.approx(min(nats.values()), rel=1e-9)
    best = min(nats, key=lambda share: nats[share])
    assert RIDGES[0] < best < RIDGES[-1]
    said_NK = left_out(x, y, best * spread).numpy()
    assert found.r2 == pytest.approx(1 - np.square(y - said_NK).sum() / np.square(y - y.mean(0)).sum(), rel=1e-9)
    assert 0 < found.r2 < 1


def test_a_shift_of_all_logits_says_nothing_of_one_answer_and_much_of_many_labels() -> None:
    x_ND, logits_NK = drawn()
    moved_NK = logits_NK + 7 * torch.randn(len(x_ND), 1, generator=torch.Generator().manual_seed(1))
    one, other = (known(x_ND, each, "classification") for each in (logits_NK, moved_NK))
    assert one.nats == pytest.approx(other.nats, rel=1e-5)
    assert one.r2 == pytest.approx(other.r2, rel=1e-4)
    many, moved = (known(x_ND, each, "multilabel") for each in (logits_NK, moved_NK))
    assert moved.r2 < many.r2 - 0.1


def test_features_that_know_the_answers_score_above_noise_and_above_those_that_know_half() -> None:
    _, logits_NK = drawn(64)
    noise_ND = torch.randn(64, 6, generator=torch.Generator().manual_seed(2))
    whole, half, none = (
        known(each, logits_NK, "classification", logits_NK)
        for each in (logits_NK, torch.cat([logits_NK[:, :2], noise_ND], 1), noise_ND)
    )
    for measure in ("nats", "r2", "logme", "cka"):
        values = [getattr(each, measure) * (-1 if measure == "nats" else 1) for each in (whole, half, none)]
        assert values == sorted(values, reverse=True), measure
    assert whole.nats < 1e-3
    assert whole.cka == pytest.approx(1, abs=1e-5)
    assert none.r2 < 0.1


def evidence(f_ND: np.ndarray, y_N: np.ndarray, alpha: float, beta: float) -> float:
    """log p(y) of y ~ N(0, 1/β + F Fᵀ/α), by its definition."""
    covariance_NN = np.eye(len(y_N)) / beta + f_ND @ f_ND.T / alpha
    return float(multivariate_normal.logpdf(y_N, np.zeros(len(y_N)), covariance_NN))


@pytest.mark.parametrize("d", [3, 30])
def test_logme_is_the_largest_evidence_there_is(d: int) -> None:
    x_ND, logits_NK = drawn(20, d)
    f_ND, y_NK = x_ND.double().numpy(), (logits_NK - logits_NK.mean(0)).double().numpy()
    best = []
    for y_N in y_NK.T:
        starts = [(0.0, 0.0), (2.0, -2.0), (-2.0, 2.0)]
        found = [minimize(lambda at, y_N=y_N: -evidence(f_ND, y_N, *np.exp(at)), start) for start in starts]
        best.append(max(-one.fun for one in found) / len(y_N))
    assert logme(x_ND, torch.tensor(y_NK)) == pytest.approx(np.mean(best), abs=1e-5)


def test_cka_is_that_of_its_definition() -> None:
    x_ND, logits_NK = drawn()
    theirs_ND = torch.cat([x_ND[:, :3], torch.randn(len(x_ND), 9, generator=torch.Generator().manual_seed(3))], 1)
    x, y = (each.double() - each.double().mean(0) for each in (x_ND, theirs_ND))
    # Kornblith et al. 2019, section 3: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features.
    wanted = (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    found = known(x_ND, logits_NK, "classification", theirs_ND).cka
    assert found == pytest.approx(float(wanted), rel=1e-4)
    assert known(x_ND, logits_NK, "classification").cka is None
