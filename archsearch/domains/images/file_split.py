"""A split of images that stay files: decoded as they are asked for, so that no more than a batch is ever in memory."""

# N images, H W space, C channels

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from archsearch.data.task import Labels, Rows, joined_labels, label_tensor
from archsearch.domains.images.encoded import Encoded
from archsearch.domains.images.statistics import Statistics, of_sums
from archsearch.domains.images.task import feed_labels

if TYPE_CHECKING:
    from torch import Tensor

_MOST_THREADS = 8


@dataclass(frozen=True)
class FileSplit:
    """See `Images`.

    Attributes:
        encoded: The files of the whole data set.
        row_N: Which of them are this split's.
        y_N: As of any split.
    """

    encoded: Encoded
    row_N: npt.NDArray[np.int64]
    y_N: Labels

    def __len__(self) -> int:
        return len(self.y_N)

    def take(self, rows: Rows) -> FileSplit:
        return FileSplit(self.encoded, self.row_N[rows], self.y_N[rows])

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.encoded.sizes

    def pixels(self, rows: Rows) -> npt.NDArray[np.uint8]:
        """Several are decoded at a time; Pillow does that without Python's lock."""
        wanted = self.row_N[rows].tolist()
        if len(wanted) < 2:
            return self.decoded(rows)
        x_NHWC = np.empty((len(wanted), *self.sizes), dtype=np.uint8)

        def fill(place: int) -> None:
            x_NHWC[place] = self.encoded.decode(wanted[place])

        with ThreadPoolExecutor(min(_MOST_THREADS, len(wanted), os.cpu_count() or 1)) as pool:
            list(pool.map(fill, range(len(wanted))))
        return x_NHWC

    def decoded(self, rows: Rows) -> npt.NDArray[np.uint8]:
        """The same pixels, by this thread alone: for one of many processes that decode."""
        wanted = self.row_N[rows].tolist()
        x_NHWC = np.empty((len(wanted), *self.sizes), dtype=np.uint8)
        for place, row in enumerate(wanted):
            # A grey one among coloured ones fills all channels.
            x_NHWC[place] = self.encoded.decode(row)
        return x_NHWC

    def images(self) -> Tensor:
        import torch

        return torch.from_numpy(np.ascontiguousarray(self.pixels(slice(None)).transpose(0, 3, 1, 2)))

    def examples(self, rows: Rows) -> Tensor:
        return self.take(rows).images().float() / 255

    def labels(self) -> Tensor:
        return label_tensor(self.y_N)

    def content(self, row: int) -> bytes:
        found: bytes = self.encoded.survey.content_ND[self.row_N[row]].tobytes()
        return found

    def statistics(self) -> Statistics:
        height, width, channels = self.sizes
        sums_C2 = self.encoded.survey.sums_NC2[self.row_N].sum(axis=0, dtype=np.uint64)
        return of_sums(sums_C2[:channels], len(self) * height * width)

    def feed(self, digest: Any, name: str) -> None:
        digest.update(f"{name} files {(len(self), *self.sizes)} {self.encoded.fit}\n".encode())
        digest.update(np.ascontiguousarray(self.encoded.survey.digest_ND[self.row_N]).data)
        feed_labels(digest, name, self.y_N)

    def joined(self, others: Sequence[Self]) -> FileSplit:
        every = (self, *others)
        row_N = np.concatenate([split.row_N for split in every])
        return FileSplit(self.encoded, row_N, joined_labels([split.y_N for split in every]))
