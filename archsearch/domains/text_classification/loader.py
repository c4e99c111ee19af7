"""Batches of texts of about one length, padded to the longest of each."""

# B batch, N texts

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsearch.distill.amount import amount
from archsearch.distill.group import Group
from archsearch.distill.loader import Batch
from archsearch.domains.text.batches import epoch_batches
from archsearch.domains.text.task import TextDataset
from archsearch.request import DistillSpec


class Bucketed:
    """Texts in the order of `epoch_batches`; each has one view, the text itself."""

    def __init__(self, dataset: TextDataset, spec: DistillSpec, device: str, group: Group) -> None:
        self.split, self.spec, self.device, self.group = dataset.train, spec, device, group
        self.y = self.split.labels().to(device)

    def epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        size = amount(self.spec).batch_size
        for rows in epoch_batches(self.split.lengths_N, size, self.spec.seed, epoch)[first:]:
            row_B = rows[self.group.share(0, size)].astype(np.int64)
            x_B2T = self.split.examples(row_B).to(self.device, non_blocking=True)
            yield Batch(x_B2T, self.y[row_B], row_B, np.zeros(len(row_B), np.int64))
