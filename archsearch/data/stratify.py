"""Hold-outs of images with many labels each: every label is divided as the whole is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from archsearch.data.task import Labels

# N images, K labels, 2 sides: kept and held out


def hold_out_labels(y_NK: Labels, share: float, seed: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row numbers, ascending, of (kept, held-out) images: about `share` of all images and of every label's.

    Iterative stratification (Sechidis et al. 2011, algorithm 1): the rarest label left is dealt out first, each of its
    images to the side that still wants most of that label, or else most images. Beyond the paper, no label gives away
    its last image, nor the last image without it, so that what is kept can be learned from.
    """
    # RandomState's stream is frozen by NumPy's policy, as in splits.hold_out.
    order_N = np.random.RandomState(seed).permutation(len(y_NK))
    with_K = y_NK.sum(axis=0, dtype=np.int64)
    without_K = len(y_NK) - with_K
    wanted_2 = len(y_NK) * np.array([1 - share, share])
    wanted_2K = with_K * np.array([[1 - share], [share]])
    held_N = np.zeros(len(y_NK), dtype=bool)
    for row, label in _rarest_first(y_NK, order_N):
        has_K = y_NK[row] != 0
        tied = label is None or wanted_2K[0, label] == wanted_2K[1, label]
        kept, held = wanted_2 if tied else wanted_2K[:, label]
        to_spare = (np.where(has_K, with_K, without_K) > 1).all()
        side = int(held > kept and to_spare)
        wanted_2[side] -= 1
        wanted_2K[side] -= has_K
        if side:
            held_N[row] = True
            with_K -= has_K
            without_K -= ~has_K
    return np.flatnonzero(~held_N), np.flatnonzero(held_N)


def _rarest_first(y_NK: Labels, order_N: npt.NDArray[np.intp]) -> Iterator[tuple[int, int | None]]:
    """Every row once, with the label it is dealt out for: the one with the fewest rows left; None for rows without."""
    left_K = y_NK.sum(axis=0, dtype=np.int64)
    waiting_N = np.ones(len(y_NK), dtype=bool)
    while left_K.any():
        label = int(np.where(left_K > 0, left_K, len(y_NK) + 1).argmin())
        rows = order_N[waiting_N[order_N] & (y_NK[order_N, label] != 0)]
        waiting_N[rows] = False
        left_K -= y_NK[rows].sum(axis=0, dtype=np.int64)
        yield from ((int(row), label) for row in rows)
    yield from ((int(row), None) for row in order_N[waiting_N[order_N]])
