"""What a teacher shows of texts, asked once for all of a training: its answers, and its layers' attention.

A text has one view, so the teacher shows the same of it in every epoch. Looking takes several times as long as the
student's own step; what losses read of the layers they name is small, 2.3 kB a token of MiniLM's last layer in bf16.
"""

# B batch, T tokens, D features, K classes, N examples, F the tokens of all of them, one after the other

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from archsearch.data.batches import Alive
from archsearch.data.task import Split
from archsearch.distill.loader import Batch
from archsearch.distill.loss import Attention, Outputs
from archsearch.distill.watched import Watched
from archsearch.evidence.inputs import real_tokens

if TYPE_CHECKING:
    from torch import Tensor, nn

Ints = npt.NDArray[np.int64]
# What may be kept, at most. No share of the machine's memory: a training goes on as it began wherever it goes on.
MOST_BYTES = 2**30
# Examples the teacher looks at together, and those whose lengths are counted together.
_AT_ONCE, _COUNTED = 64, 1024


class Looking(Protocol):
    """A teacher that looks at every batch it is given."""

    device: str
    watched: Watched
    alive: Alive

    def outputs(self, batch: Batch) -> Outputs: ...


@dataclass(frozen=True)
class _Layer:
    """One layer's projections of all real tokens, F×D each."""

    query_FD: Tensor
    key_FD: Tensor
    value_FD: Tensor
    heads: int


class Remembered:
    """A teacher that looks at every example once, when it is first asked.

    It looks at those of like lengths together, whatever the training's own batches are: what it shows is the same to
    the bit when a training that was interrupted has to ask again.
    """

    def __init__(self, online: Looking, split: Split, length_N: Ints) -> None:
        self.online, self.split, self.length_N = online, split, length_N
        self.start_N: Ints = np.cumsum(length_N) - length_N
        self.answers_NK: Tensor | None = None
        self.layers: list[_Layer | None] = []

    def outputs(self, batch: Batch) -> Outputs:
        import torch

        if self.answers_NK is None:
            self._look()
        assert self.answers_NK is not None
        mask_BT = _mask(batch.x)
        # What lies behind a text's own tokens is of another, and as hidden by the mask as padding is.
        place_BT = self._places(batch.row_B, mask_BT)
        shown = tuple(None if layer is None else _attention(layer, place_BT, mask_BT) for layer in self.layers)
        return Outputs(self.answers_NK[torch.from_numpy(batch.row_B)], attention=shown)

    def flush(self) -> None:
        """It is in memory alone, and whoever goes on asks again."""

    def _look(self) -> None:
        import torch

        order_N = np.argsort(self.length_N, kind="stable").astype(np.int64)
        for start in range(0, len(order_N), _AT_ONCE):
            row_B = order_N[start : start + _AT_ONCE]
            x, none = self.split.examples(row_B), np.zeros(len(row_B), np.int64)
            shown = self.online.outputs(Batch(x, torch.from_numpy(row_B), row_B, none))
            self._keep(row_B, _mask(x), shown)
            self.online.alive()

    def _keep(self, row_B: Ints, mask_BT: Tensor, shown: Outputs) -> None:
        import torch

        if self.answers_NK is None:
            self.answers_NK = shown.answers_MK.new_empty(len(self.split), *shown.answers_MK.shape[1:])
            self.layers = [None if each is None else _empty(each, int(self.length_N.sum())) for each in shown.attention]
        self.answers_NK[torch.from_numpy(row_B)] = shown.answers_MK
        place_M = self._places(row_B, mask_BT)[mask_BT]
        for layer, each in zip(self.layers, shown.attention, strict=True):
            if layer is not None and each is not None:
                layer.query_FD[place_M] = each.query_BTD[mask_BT]
                layer.key_FD[place_M] = each.key_BTD[mask_BT]
                layer.value_FD[place_M] = each.value_BTD[mask_BT]

    def _places(self, row_B: Ints, mask_BT: Tensor) -> Tensor:
        """Where each token lies among all; behind a text's last any place that there is."""
        import torch

        start_B, last = torch.from_numpy(self.start_N[row_B]), int(self.length_N.sum()) - 1
        return (start_B[:, None] + torch.arange(mask_BT.shape[1])).clamp_max(last)


def remembered(online: Looking, split: Split) -> Remembered | None:
    """The teacher with all it shows kept in memory, where it shows answers and attention alone and that fits."""
    if online.device != "cpu" or online.watched.reads - {"logits"} != {"attention"}:
        return None  # a GPU looks faster than it is told
    length_N = lengths(split)
    layers = [online.watched.layers[i] for i in online.watched.shown]
    projections = [module for layer in layers for module in (layer.query, layer.key, layer.value)]
    a_token = 4 * sum(_width(module) for module in projections)
    return Remembered(online, split, length_N) if length_N.sum() * a_token <= MOST_BYTES else None


def _width(projection: nn.Module) -> int:
    weight: Any = projection.weight
    return int(weight.shape[0])


def lengths(split: Split) -> Ints:
    """Real tokens of every example."""
    parts = range(0, len(split), _COUNTED)
    masks = [_mask(split.examples(slice(start, min(len(split), start + _COUNTED)))) for start in parts]
    return np.concatenate([mask_BT.sum(1).numpy() for mask_BT in masks]).astype(np.int64)


def _mask(x: Tensor) -> Tensor:
    mask_BT = real_tokens(x)
    assert mask_BT is not None
    return mask_BT


def _empty(like: Attention, tokens: int) -> _Layer:
    query_FD, key_FD, value_FD = (
        x_BTD.new_empty(tokens, x_BTD.shape[2]) for x_BTD in (like.query_BTD, like.key_BTD, like.value_BTD)
    )
    return _Layer(query_FD, key_FD, value_FD, like.heads)


def _attention(layer: _Layer, place_BT: Tensor, mask_BT: Tensor) -> Attention:
    return Attention(layer.query_FD[place_BT], layer.key_FD[place_BT], layer.value_FD[place_BT], layer.heads, mask_BT)
