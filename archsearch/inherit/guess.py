"""How a layer guesses what another reads: ridge regressions, as strong as samples that are held out say."""

# I inputs, M samples, N inputs of the whole layer, R outputs times places of a kernel, S N or R

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Parts of the samples, one of which tells how strongly the others are to be fitted, or each in turn where they are few.
_FOLDS, _FEW = 5, 1024
# Ridges to choose from, in units of the mean square of an input; the last is no guess but of the mean.
_RIDGES = (1e-8, 1e-2, 1e-1, 1.0, 10.0, 100.0, float("inf"))
# The least share of squares to gain.
_GAIN = 0.01


def missing(off_MN: Tensor, x_MN: Tensor, weight_RN: Tensor) -> float:
    """How much of what a layer makes of its input is missing, in squares."""
    size_N = weight_RN.square().sum(dim=0).sqrt()
    return float((off_MN * size_N).square().sum() / (x_MN * size_N).square().sum().clamp_min(1e-30))


def slopes(x_MI: Tensor, y_MI: Tensor) -> Tensor:
    """How much of each input is to be believed: the slope of the whole's on it, 1 where it does not vary."""
    import torch

    x, y = x_MI.double() - x_MI.mean(dim=0), y_MI.double() - y_MI.mean(dim=0)
    var_I, cov_I = x.square().mean(dim=0), (x * y).mean(dim=0)
    return torch.where(var_I > 1e-12, cov_I / var_I.clamp_min(1e-12), 1.0).to(x_MI)


def fit(
    x_MI: Tensor, off_MN: Tensor, weight_RN: Tensor, *, bias: bool, before_MN: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """What is to be added to a layer's weights, R×I, and to its outputs at each place of its kernel, R.

    Ridge regression of what the layer misses on what it reads, both without their means; how strong is chosen by
    samples that are held out, and then all of them are fitted. None where nothing is gained on those.

    Args:
        bias: Whether the layer has one; a norm behind it takes means away otherwise.
        before_MN: What it misses as it is, where that is other than what is to be fitted.
    """
    # What it misses is fitted as its outputs or as its inputs, whichever are fewer; the solution is the same.
    outputs = len(weight_RN) < weight_RN.shape[1]
    x, weight = x_MI.double(), weight_RN.double()
    off_MS, before_MS = (
        each.double() @ weight.T if outputs else each.double()
        for each in (off_MN, off_MN if before_MN is None else before_MN)
    )

    def error(left_MS: Tensor) -> float:
        left = left_MS if bias else left_MS - left_MS.mean(dim=0)
        return float((left if outputs else left @ weight.T).square().sum())

    rows = _parts(len(x))
    parts = [_Ridge(x[some], off_MS[some]) for some in rows]
    before, after = 0.0, dict.fromkeys(_RIDGES, 0.0)
    for number in range(len(parts)) if len(x) <= _FEW else (len(parts) - 1,):
        held, others = parts[number], _joined([*parts[:number], *parts[number + 1 :]])
        before += (1 - _GAIN) * error(before_MS[rows[number]])
        for ridge in _RIDGES:
            map_IS, shift_S = others.solve(ridge)
            after[ridge] += error(held.y_MS - held.x_MI @ map_IS - shift_S)
    strength = min(_RIDGES, key=after.__getitem__)
    if after[strength] >= before:
        return None
    map_IS, shift_S = _joined(parts).solve(strength)
    if not outputs:
        map_IS, shift_S = map_IS @ weight.T, weight @ shift_S
    return map_IS.T.to(x_MI), shift_S.to(x_MI)


def _parts(samples: int) -> list[slice]:
    """All samples in a few parts: an example's are in one, or in two that follow one another."""
    ends = [samples * part // _FOLDS for part in range(_FOLDS + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends) if end > start]


class _Ridge:
    """Ridge regressions of the same y on the same x, of several strengths."""

    def __init__(self, x_MI: Tensor, y_MS: Tensor, products: tuple[Tensor, Tensor] | None = None) -> None:
        self.x_MI, self.y_MS = x_MI, y_MS
        self._products = products

    @property
    def products(self) -> tuple[Tensor, Tensor]:
        """I×I and I×S, of x with itself and with y, their means included."""
        if self._products is None:
            self._products = self.x_MI.T @ self.x_MI, self.x_MI.T @ self.y_MS
        return self._products

    @cached_property
    def means(self) -> tuple[Tensor, Tensor]:
        return self.x_MI.mean(dim=0), self.y_MS.mean(dim=0)

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """I×S, and the intercept."""
        import torch

        x_I, y_S = self.means
        if ridge == float("inf"):
            return torch.zeros(len(x_I), len(y_S)).to(x_I), y_S
        map_IS = self._of_few(ridge) if len(self.x_MI) < len(x_I) else self._of_many(ridge)
        return map_IS, y_S - x_I @ map_IS

    def _of_many(self, ridge: float) -> Tensor:
        (gram_II, cross_IS), (x_I, y_S), samples = self.products, self.means, len(self.x_MI)
        cross_IS = cross_IS - samples * x_I[:, None] * y_S
        return _solve(gram_II - samples * x_I[:, None] * x_I, cross_IS, ridge)

    def _of_few(self, ridge: float) -> Tensor:
        """The same by the samples' products, which are fewer."""
        x_I, y_S = self.means
        x_MI = self.x_MI - x_I
        share = len(self.x_MI) / len(x_I)  # of the mean square of a sample, that of an input
        return x_MI.T @ _solve(x_MI @ x_MI.T, self.y_MS - y_S, ridge * share)


def _joined(parts: Sequence[_Ridge]) -> _Ridge:
    """Of the samples of all of them."""
    import torch

    x_MI, y_MS = torch.cat([part.x_MI for part in parts]), torch.cat([part.y_MS for part in parts])
    if len(x_MI) < x_MI.shape[1]:
        return _Ridge(x_MI, y_MS)
    grams, crosses = zip(*(part.products for part in parts), strict=True)
    return _Ridge(x_MI, y_MS, (sum(grams[1:], grams[0]), sum(crosses[1:], crosses[0])))


def _solve(gram: Tensor, right: Tensor, ridge: float) -> Tensor:
    """With so much added to the diagonal, in units of its mean."""
    import torch

    size = gram.diagonal().mean().clamp_min(1e-30)
    damped = gram + ridge * size * torch.eye(len(gram)).to(gram)
    found: Tensor = torch.cholesky_solve(right, torch.linalg.cholesky(damped))
    return found
