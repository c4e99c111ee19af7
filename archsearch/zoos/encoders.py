"""The families of encoders that are known here: where their parts lie, and what their configurations call them.

Nothing here imports torch or transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """One `model_type` of the transformers library, with its own classifier (`AutoModelForSequenceClassification`).

    Attributes:
        body: What the classifier calls the encoder inside it.
        layers, embeddings: Dotted names in the classifier; the layers are a list.
        attention: Query, key and value, dotted names in a layer.
        head: The last linear layer, a dotted name in the classifier.
        segments: Whether it is told which of two texts a token is of.
        classified: Modules that stand between the body and the answers; a bare encoder has none of them.
        names: What its configuration calls layers, heads, hidden and ffn (the feed-forward's width).
    """

    model_type: str
    body: str
    layers: str
    embeddings: str
    attention: tuple[str, str, str]
    head: str
    segments: bool
    classified: tuple[str, ...]
    names: Mapping[str, str]

    def read(self, config: Mapping[str, Any], name: str) -> Any:
        """A size by our name for it: layers, heads, hidden or ffn."""
        return config[self.names[name]]

    def positions(self, config: Mapping[str, Any]) -> int:
        """Tokens it can take at most: RoBERTa counts from behind its padding's id."""
        offset = int(config["pad_token_id"]) + 1 if self.model_type == "roberta" else 0
        return int(config["max_position_embeddings"]) - offset


_OF_BERT = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "hidden_size",
    "ffn": "intermediate_size",
}
_SELF = ("attention.self.query", "attention.self.key", "attention.self.value")
_FOUND = (
    Family(
        "bert", "bert", "bert.encoder.layer", "bert.embeddings", _SELF, "classifier", True, ("classifier",), _OF_BERT
    ),
    Family(
        "roberta", "roberta", "roberta.encoder.layer", "roberta.embeddings", _SELF, "classifier.out_proj", False,
        ("classifier",), _OF_BERT,
    ),
    Family(
        "electra", "electra", "electra.encoder.layer", "electra.embeddings", _SELF, "classifier.out_proj", True,
        ("classifier",), _OF_BERT,
    ),
    Family(
        "distilbert", "distilbert", "distilbert.transformer.layer", "distilbert.embeddings",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin"), "classifier", False,
        ("pre_classifier", "classifier"),
        {"layers": "n_layers", "heads": "n_heads", "hidden": "dim", "ffn": "hidden_dim"},
    ),
)  # fmt: skip
FAMILIES: Mapping[str, Family] = {family.model_type: family for family in _FOUND}
KNOWN = "BERT, RoBERTa, DistilBERT and ELECTRA"
