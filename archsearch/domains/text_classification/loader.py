"""Batches of texts of about one length, padded to the longest of each."""

# B batch, N texts

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsearch.distill.amount import amount
from archsearch.distill.group import Group
from archsearch.distill.loader import Batch
from archsearch.distill.pool import learned, pool, targets
from archsearch.domains.text.task import TextDataset, TextSplit
from archsearch.domains.text_classification.batches import pool_batches
from archsearch.request import DistillSpec


class Bucketed:
    """Texts in the order of `pool_batches`; each has one view, the text itself."""

    def __init__(self, dataset: TextDataset, spec: DistillSpec, device: str, group: Group) -> None:
        self.rows, self.spec, self.device, self.group = pool(dataset, spec), spec, device, group
        self.split: TextSplit = learned(dataset, self.rows)
        self.y = targets(dataset, self.rows).to(device)

    def epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        size = amount(self.spec).batch_size
        for rows in pool_batches(self.split.lengths_N, self.rows, self.spec.seed, epoch)[first:]:
            row_B = rows[self.group.share(0, size)].astype(np.int64)
            x_B2T = self.split.examples(row_B).to(self.device, non_blocking=True)
            yield Batch(x_B2T, self.y[row_B], row_B, np.zeros(len(row_B), np.int64))
