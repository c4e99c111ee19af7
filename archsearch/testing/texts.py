"""Texts to look at, and an encoder of them small enough for any test: nothing but torch is needed."""

# B batch, T tokens, D features, K classes, A heads

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

VOCABULARY, LONGEST = 50, 32
# What stands in the row of segments where there is only padding.
PADDING = -1


@dataclass(frozen=True)
class Projections:
    """One layer's attention."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    heads: int


class TinyEncoder(nn.Module):
    """Answers texts B×2×T, ids over segments, and names its parts as encoders of any zoo do.

    The first token's last state enters the classifier. Nothing that stands in padding is looked at.
    """

    num_prefix_tokens = 0

    def __init__(
        self, width: int = 12, heads: int = 3, layers: int = 2, classes: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embeddings = Embeddings(width)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, dropout) for _ in range(layers))
        self.head = nn.Linear(width, classes)
        self.feature_info: list[dict[str, Any]] = [{"module": f"layers.{i}", "num_chs": width} for i in range(layers)]

    @property
    def embeddings_module(self) -> nn.Module:
        """Its output, B×T×D, is the first that gradients reach."""
        return self.embeddings

    def get_classifier(self) -> nn.Linear:
        return self.head

    def attention_modules(self) -> list[Projections]:
        """First layer to last."""
        named = [layer.get_submodule("attention") for layer in self.layers]
        return [Projections(a.query, a.key, a.value, a.heads) for a in named if isinstance(a, SelfAttention)]

    def forward_features(self, x_B2T: Tensor) -> Tensor:
        """The last layer's tokens, B×T×D."""
        mask_B11T = (x_B2T[:, 1] != PADDING)[:, None, None, :]
        tokens_BTD: Tensor = self.embeddings(x_B2T)
        for layer in self.layers:
            tokens_BTD = layer(tokens_BTD, mask_B11T)
        return tokens_BTD

    def forward(self, x_B2T: Tensor) -> Tensor:
        logits_BK: Tensor = self.head(self.forward_features(x_B2T)[:, 0])
        return logits_BK


class Embeddings(nn.Module):
    """Of a token's id, its place and its segment."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ids, self.places, self.segments = (nn.Embedding(n, width) for n in (VOCABULARY, LONGEST, 2))
        self.norm = nn.LayerNorm(width)

    def forward(self, x_B2T: Tensor) -> Tensor:
        place_T = torch.arange(x_B2T.shape[2], device=x_B2T.device)
        total_BTD = self.ids(x_B2T[:, 0]) + self.segments(x_B2T[:, 1].clamp(min=0)) + self.places(place_T)
        normed_BTD: Tensor = self.norm(total_BTD)
        return normed_BTD


class SelfAttention(nn.Module):
    """Every token looks at all real ones."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x_BTD: Tensor, mask_B11T: Tensor) -> Tensor:
        shape = (*x_BTD.shape[:2], self.heads, -1)
        q, k, v = (layer(x_BTD).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        seen_BATR = scaled_dot_product_attention(q, k, v, attn_mask=mask_B11T)
        found_BTD: Tensor = self.out(seen_BATR.transpose(1, 2).flatten(2))
        return found_BTD


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network, each added and then normalised."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.act, self.down = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, mask_B11T: Tensor) -> Tensor:
        x_BTD = self.norm(x_BTD + self.dropout(self.attention(x_BTD, mask_B11T)))
        found_BTD: Tensor = self.last_norm(x_BTD + self.dropout(self.down(self.act(self.up(x_BTD)))))
        return found_BTD


def texts(count: int = 16, tokens: int = 9, seed: int = 0) -> Tensor:
    """Random ids B×2×T of texts of 2 to so many tokens, the first of that many."""
    draw = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(1, VOCABULARY, (count, tokens), generator=draw)
    length_B = torch.randint(2, tokens + 1, (count,), generator=draw)
    length_B[0] = tokens
    real_BT = torch.arange(tokens) < length_B[:, None]
    return torch.stack((ids_BT * real_BT, torch.where(real_BT, 0, PADDING)), 1)


def longer(x_B2T: Tensor, by: int) -> Tensor:
    """The same texts with so much more padding."""
    ids_BT, segments_BT = x_B2T.unbind(1)
    return torch.stack((pad(ids_BT, (0, by)), pad(segments_BT, (0, by), value=PADDING)), 1)
