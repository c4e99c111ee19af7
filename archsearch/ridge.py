"""Ridge regression in closed form, and what it would have said of each example had it learned from the others alone."""

# N examples, D features, K outputs, R directions (the fewer of N and D)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

# Shares of the features' summed squares about their mean that the squares of coefficients are weighed by.
RIDGES = tuple(10.0 ** (exponent / 2) for exponent in range(-14, 3))
# Below such a share of their squares, what features differ by is rounding.
_ROUNDING = 1e-14


class Ridge(NamedTuple):
    """A linear map from features to outputs, all in float64.

    Attributes:
        ridge: What the squares of coefficients were weighed by, chosen by leave-one-out.
        predictions_NK: Of each example by a fit of all the others, intercept included.
        coefficients_DK, intercept_K: Of the fit of all examples.
    """

    ridge: float
    predictions_NK: Tensor
    coefficients_DK: Tensor
    intercept_K: Tensor


def leave_one_out(
    x_ND: Tensor,
    y_NK: Tensor,
    ridges: Sequence[float] = RIDGES,
    loss: Callable[[Tensor], float] | None = None,
) -> Ridge:
    """min ‖y − xW − b‖² + λ‖W‖², λ by leave-one-out: with hat matrix H the residual left one out is (y − Hy)ᵢ/(1 − Hᵢᵢ)
    (Allen 1974, PRESS; Golub, Heath and Wahba 1979), exact with a free intercept, too.

    One eigendecomposition serves all λ: of the D×D matrix of squares where features are fewer, of the N×N one else.

    Args:
        ridges: λ to choose from, as shares of the features' summed squares about their mean.
        loss: Of predictions left one out, least is best; None is their mean squared error.

    Raises:
        ValueError: Fewer than two examples, or no λ above 0.
    """

    if len(x_ND) < 2 or not ridges or min(ridges) <= 0:
        raise ValueError("leave-one-out takes two examples at least, and ridges above 0")
    x_ND, y_NK = x_ND.double(), y_NK.double()
    mean_D, mean_K = x_ND.mean(0), y_NK.mean(0)
    centred_ND, target_NK = x_ND - mean_D, y_NK - mean_K
    spread = float(centred_ND.square().sum())
    floor = _ROUNDING * float(x_ND.square().sum()) or 1.0  # of features that are all 0
    left_out = _primal if x_ND.shape[1] < len(x_ND) else _dual
    predict = left_out(centred_ND, target_NK)

    def judged(predictions_NK: Tensor) -> float:
        return float((predictions_NK - y_NK).square().mean()) if loss is None else loss(predictions_NK)

    best: tuple[float, float] | None = None
    for share in ridges:
        ridge = share * spread + floor
        found = judged(y_NK - predict(ridge)[0])
        if best is None or found < best[0]:
            best = found, ridge
    assert best is not None
    residual_NK, coefficients_DK = predict(best[1])
    intercept_K: Tensor = mean_K - mean_D @ coefficients_DK
    return Ridge(best[1], y_NK - residual_NK, coefficients_DK, intercept_K)


# Of a λ, the residuals left one out N×K, and the coefficients D×K.
_Fit = Callable[[float], tuple["Tensor", "Tensor"]]


def _primal(centred_ND: Tensor, target_NK: Tensor) -> _Fit:
    """By the eigenvectors of XᵀX: of few features, or of many examples."""
    import torch

    values_R, vectors_DR = torch.linalg.eigh(centred_ND.T @ centred_ND)
    values_R = values_R.clamp_min(0)
    turned_NR = centred_ND @ vectors_DR
    known_RK = turned_NR.T @ target_NK
    squares_NR = turned_NR.square()

    def fit(ridge: float) -> tuple[Tensor, Tensor]:
        shrunk_R = 1 / (values_R + ridge)
        coefficients_RK = shrunk_R[:, None] * known_RK
        # The mean takes its own 1/N.
        kept_N = 1 - 1 / len(centred_ND) - squares_NR @ shrunk_R
        residual_NK = target_NK - turned_NR @ coefficients_RK
        return residual_NK / kept_N[:, None], vectors_DR @ coefficients_RK

    return fit


def _dual(centred_ND: Tensor, target_NK: Tensor) -> _Fit:
    """By the eigenvectors of XXᵀ: of few examples. I − H = λ(XXᵀ + λI)⁻¹ − 11ᵀ/N stays exact where H is nearly I."""
    import torch

    values_R, vectors_NR = torch.linalg.eigh(centred_ND @ centred_ND.T)
    values_R = values_R.clamp_min(0)
    known_RK = vectors_NR.T @ target_NK
    squares_NR = vectors_NR.square()

    def fit(ridge: float) -> tuple[Tensor, Tensor]:
        shrunk_R = 1 / (values_R + ridge)
        dual_NK = vectors_NR @ (shrunk_R[:, None] * known_RK)
        kept_N = ridge * (squares_NR @ shrunk_R) - 1 / len(centred_ND)
        return ridge * dual_NK / kept_N[:, None], centred_ND.T @ dual_NK

    return fit
