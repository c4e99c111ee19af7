from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from archsearch.ridge import RIDGES, leave_one_out

# N examples, D features, K outputs


def drawn(n: int, d: int, k: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features far from 0, and outputs that follow some of them."""
    generator = torch.Generator().manual_seed(seed)
    x_ND = 5 + torch.randn(n, d, generator=generator) * torch.logspace(0, -3, d)
    y_NK = 2 + x_ND @ torch.randn(d, k, generator=generator) + 0.3 * torch.randn(n, k, generator=generator)
    return x_ND, y_NK


@pytest.mark.parametrize(("n", "d"), [(40, 7), (20, 20), (12, 50)])
@pytest.mark.parametrize("share", [1e-6, 1e-3, 1.0])
def test_predictions_are_those_of_fits_that_really_leave_one_out(n: int, d: int, share: float) -> None:
    x_ND, y_NK = drawn(n, d)
    found = leave_one_out(x_ND, y_NK, [share])
    x, y = x_ND.double().numpy(), y_NK.double().numpy()
    for i in range(n):
        others = np.arange(n) != i
        refit = Ridge(alpha=found.ridge, solver="svd").fit(x[others], y[others])
        np.testing.assert_allclose(found.predictions_NK[i], refit.predict(x[[i]])[0], rtol=1e-6, atol=1e-7)
    whole = Ridge(alpha=found.ridge, solver="svd").fit(x, y)
    np.testing.assert_allclose(found.coefficients_DK.T, whole.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.intercept_K, whole.intercept_, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("d", [5, 60])
def test_the_ridge_is_the_one_that_errs_least_on_what_was_left_out(d: int) -> None:
    x_ND, y_NK = drawn(30, d)
    y_NK = y_NK + 0.7 * torch.randn(y_NK.shape, generator=torch.Generator().manual_seed(1))
    errors = {share: (leave_one_out(x_ND, y_NK, [share]).predictions_NK - y_NK).square().mean() for share in RIDGES}
    chosen = leave_one_out(x_ND, y_NK)
    best = min(errors, key=lambda share: float(errors[share]))
    assert chosen.ridge == leave_one_out(x_ND, y_NK, [best]).ridge
    assert RIDGES[0] < best < RIDGES[-1], "the grid's ends are out of the way"


def test_another_loss_chooses_another_ridge() -> None:
    x_ND, y_NK = drawn(30, 5)
    found = leave_one_out(x_ND, y_NK, loss=lambda predictions_NK: float(predictions_NK.square().mean()))
    most = leave_one_out(x_ND, y_NK, [RIDGES[-1]])
    assert found.ridge == most.ridge
    assert torch.equal(found.predictions_NK, most.predictions_NK)


@pytest.mark.parametrize("d", [4, 40])
@pytest.mark.parametrize("value", [0.0, 3.3])
def test_features_that_tell_nothing_leave_the_mean_of_the_others(d: int, value: float) -> None:
    _, y_NK = drawn(10, 2)
    found = leave_one_out(torch.full((10, d), value), y_NK)
    others_NK = (y_NK.double().sum(0) - y_NK.double()) / 9
    torch.testing.assert_close(found.predictions_NK, others_NK)
    torch.testing.assert_close(found.intercept_K + value * found.coefficients_DK.sum(0), y_NK.double().mean(0))


def test_what_cannot_be_left_out_is_refused() -> None:
    for x_ND, ridges in ((torch.zeros(1, 3), RIDGES), (torch.zeros(3, 3), ()), (torch.zeros(3, 3), (0.0,))):
        with pytest.raises(ValueError, match="two examples"):
            leave_one_out(x_ND, torch.zeros(len(x_ND), 2), ridges)
