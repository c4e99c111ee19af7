"""Rows of different lengths in one flat array: bytes of texts, or ids of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.data.task import Rows

# N rows, F flat entries, T entries of the longest row

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Rows that lie somewhere in a flat array, which may be a memory map; taking some of them copies none.

    Attributes:
        flat_F: The entries of all rows.
        start_N, length_N: Where each row begins, and how many entries it has.
    """

    flat_F: npt.NDArray[Any]
    start_N: Ints
    length_N: Ints

    def __len__(self) -> int:
        return len(self.start_N)

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        start = int(self.start_N[row])
        return self.flat_F[start : start + int(self.length_N[row])]

    def take(self, rows: Rows) -> Ragged:
        """These rows, of the same flat array."""
        return Ragged(self.flat_F, self.start_N[rows], self.length_N[rows])

    def packed(self) -> tuple[npt.NDArray[Any], Ints]:
        """The rows one after another, and where each begins and the last ends, N+1: what is kept on a disk."""
        starts_N1 = np.concatenate([[0], np.cumsum(self.length_N)]).astype(np.int64)
        if np.array_equal(self.start_N, starts_N1[:-1]):
            return self.flat_F[: starts_N1[-1]], starts_N1
        flat_F = np.empty(starts_N1[-1], dtype=self.flat_F.dtype)
        for row, start in enumerate(starts_N1[:-1].tolist()):
            flat_F[start : start + int(self.length_N[row])] = self[row]
        return flat_F, starts_N1

    def places(self) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """For rows as wide as the longest: where each entry lies in the flat array, and whether there is one, N×T."""
        step_T = np.arange(int(self.length_N.max()) if len(self) else 0)
        there_NT = step_T < self.length_N[:, None]
        return np.where(there_NT, self.start_N[:, None] + step_T, 0), there_NT


def unpacked(flat_F: npt.NDArray[Any], starts_N1: Ints) -> Ragged:
    """The rows `Ragged.packed` told of."""
    starts_N1 = np.asarray(starts_N1)
    return Ragged(flat_F, starts_N1[:-1], np.diff(starts_N1))


def joined(rows: Iterable[Sequence[int] | npt.NDArray[Any]], dtype: npt.DTypeLike) -> Ragged:
    """Rows one after another in an array of this type."""
    arrays = [np.asarray(row, dtype=dtype) for row in rows]
    starts_N1 = np.concatenate([[0], np.cumsum([len(row) for row in arrays])]).astype(np.int64)
    return unpacked(np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype), starts_N1)


def stacked(columns: Sequence[Ragged]) -> Ragged:
    """The rows of several columns of one type, one column after the other."""
    if len(columns) == 1:
        return columns[0]
    packed = [column.packed() for column in columns]
    lengths = [np.diff(starts_N1) for _, starts_N1 in packed]
    starts_N1 = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return unpacked(np.concatenate([flat_F for flat_F, _ in packed]), starts_N1)
