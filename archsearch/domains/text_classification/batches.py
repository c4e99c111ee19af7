"""Batches of texts of which some have labels: as many in each, and all of about one length."""

# N texts, B batch, S steps

from __future__ import annotations

import zlib

import numpy as np

from archsearch.data.ragged import Ints
from archsearch.distill.pool import Pool
from archsearch.domains.text.batches import Batch, epoch_batches


def pool_batches(lengths_N: Ints, rows: Pool, seed: int, epoch: int) -> list[Batch]:
    """The rows of each batch of an epoch, in the order they are trained on; depends on its arguments alone.

    Where some have no labels, those with are spread evenly over each batch, as `Pool.order` has it.

    Args:
        lengths_N: Tokens of each text, those with labels first.
    """
    if rows.once:
        return epoch_batches(lengths_N, rows.batch_size, seed, epoch)
    own = _dealt(lengths_N[: rows.labelled], rows.own, rows.steps, seed, epoch)
    if not rows.unlabelled:
        return own
    others = _dealt(lengths_N[rows.labelled :], rows.batch_size - rows.own, rows.steps, seed, epoch)
    labelled_B = np.zeros(rows.batch_size, dtype=bool)
    labelled_B[np.arange(rows.own) * rows.batch_size // rows.own] = True
    found = []
    # The longest of one kind with the longest of the other: little of a batch is padding.
    for ours, theirs in zip(
        _longest_last(own, lengths_N), _longest_last(others, lengths_N[rows.labelled :]), strict=True
    ):
        batch_B = np.empty(rows.batch_size, dtype=np.intp)
        batch_B[labelled_B], batch_B[~labelled_B] = ours, rows.labelled + theirs
        found.append(batch_B)
    order_S = np.random.RandomState(zlib.crc32(f"{seed}/{epoch}/order".encode())).permutation(len(found))
    return [found[i] for i in order_S]


def _dealt(lengths_N: Ints, size: int, steps: int, seed: int, epoch: int) -> list[Batch]:
    """So many batches, round and round; in one no text comes twice unless it has to."""
    found: list[Batch] = []
    while len(found) < steps:
        # Rounds of one epoch are epochs of their own, which no training is long enough to come to.
        turn = epoch + 1_000_000 * (len(found) // max(1, len(lengths_N) // size))
        if len(lengths_N) < size:
            rng = np.random.RandomState(zlib.crc32(f"{seed}/{epoch}/{len(found)}".encode()))
            found.append(np.resize(rng.permutation(len(lengths_N)), size))
        else:
            found += epoch_batches(lengths_N, size, seed, turn)
    return found[:steps]


def _longest_last(batches: list[Batch], lengths_N: Ints) -> list[Batch]:
    return sorted(batches, key=lambda rows: int(lengths_N[rows].max()))
