"""Tasks whose examples are texts, and the texts themselves as ids of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from archsearch.data.ragged import Ints, Ragged, joined, stacked
from archsearch.data.task import (
    Dataset,
    Kind,
    Labels,
    Rows,
    Truth,
    guessing,
    is_uneven,
    joined_labels,
    label_tensor,
)

if TYPE_CHECKING:
    from torch import Tensor

# N texts, T tokens of the longest, F tokens of all, K classes

# What stands where there is no token, in the row of segments.
PADDING = -1
# Ids below this take two bytes each.
_SMALL_VOCABULARY = 2**16


@dataclass(frozen=True)
class TextTask:
    """A classification task: `classes` labels, texts of up to `max_length` tokens.

    Attributes:
        max_length: Most tokens of a text, the tokenizer's own marks included.
        vocab_size: Ids are below it.
        pad_id: The id that fills up shorter texts.
        pair: Whether each example is two texts, which segments tell apart.
        kind: Whether each text has one label, or any number of them (`multilabel`), none included.
        prevalence: Share of the training texts that have each class or label; empty where it is not known.
        truth: What is held to be right; see `data.task.Task`.
    """

    classes: int
    max_length: int
    vocab_size: int
    pad_id: int
    pair: bool
    class_names: tuple[str, ...] = ()
    kind: Kind = "classification"
    prevalence: tuple[float, ...] = ()
    truth: Truth = "labels"

    @property
    def domain(self) -> str:
        return "text_classification"

    @property
    def uneven(self) -> bool:
        """See `data.task.is_uneven`."""
        return self.truth == "labels" and is_uneven(self.kind, self.prevalence)

    @property
    def chance(self) -> float:
        """See `data.task.guessing`."""
        return guessing(self.kind, self.classes, self.prevalence)


@dataclass(frozen=True)
class TextSplit:
    """Texts as ids of tokens, and their labels.

    Attributes:
        ids: Of every text one or more; uint16 or int32.
        segment_F: For every id of the flat array 0 or 1, uint8: of which text of a pair it is. None where all are 0.
        y_N: int64 in [0, classes). Of a multi-label task it is N×K, uint8: 1 where a text has a label, else 0.
        pad_id: The id that fills up shorter texts.
    """

    ids: Ragged
    segment_F: npt.NDArray[np.uint8] | None
    y_N: Labels
    pad_id: int

    def __len__(self) -> int:
        return len(self.y_N)

    @property
    def lengths_N(self) -> Ints:
        """Tokens of each text."""
        return self.ids.length_N

    def take(self, rows: Rows) -> TextSplit:
        """The texts of these rows with their labels; no token is copied."""
        return TextSplit(self.ids.take(rows), self.segment_F, self.y_N[rows], self.pad_id)

    def examples(self, rows: Rows) -> Tensor:
        """The texts of some rows, N×2×T int64, T the tokens of the longest of them.

        Row 0 holds ids, and `pad_id` where there is none; row 1 holds segments, and -1 where there is no token.
        """
        import torch

        place_NT, there_NT = self.ids.take(rows).places()
        x_N2T = np.zeros((len(place_NT), 2, place_NT.shape[1]), dtype=np.int64)
        x_N2T[:, 0] = np.asarray(self.ids.flat_F)[place_NT]
        if self.segment_F is not None:
            x_N2T[:, 1] = np.asarray(self.segment_F)[place_NT]
        x_N2T[:, 0][~there_NT] = self.pad_id
        x_N2T[:, 1][~there_NT] = PADDING
        return torch.from_numpy(x_N2T)

    def joined(self, others: Sequence[Self]) -> TextSplit:
        """See `Split`; tokens are copied."""
        if not others:
            return self
        every = (self, *others)
        ids, segment_F = stacked([split.ids for split in every]), None
        if self.segment_F is not None:
            segment_F = stacked([split._segments() for split in every]).flat_F
        return TextSplit(ids, segment_F, joined_labels([split.y_N for split in every]), self.pad_id)

    def _segments(self) -> Ragged:
        assert self.segment_F is not None
        return Ragged(self.segment_F, self.ids.start_N, self.ids.length_N)

    def labels(self) -> Tensor:
        """The labels as a tensor (a copy): N int64, or N×K float32, which binary cross-entropy takes."""
        return label_tensor(self.y_N)


TextDataset = Dataset[TextTask, TextSplit]


def id_type(vocab_size: int) -> type[np.uint16] | type[np.int32]:
    """The smallest type ids below `vocab_size` are kept in."""
    return np.uint16 if vocab_size <= _SMALL_VOCABULARY else np.int32


def text_split(
    ids: Sequence[Sequence[int]], y_N: Labels, pad_id: int = 0, segments: Sequence[Sequence[int]] | None = None
) -> TextSplit:
    """The split of a few texts given as lists of ids; `segments` has the same lengths."""
    columns = joined(ids, id_type(1 + max((max(row) for row in ids), default=0)))
    return TextSplit(columns, None if segments is None else joined(segments, np.uint8).flat_F, y_N, pad_id)
