from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from archsearch.domains.text.tokenizer import MOST_BYTES, load_tokenizer
from archsearch.errors import InvalidRequest, TeacherError
from tests.data_files import Refused
from tests.domains.text.conftest import WORDS, MakeTokenizer


def test_the_tokenizer_of_a_real_teacher_is_read(minilm: Path) -> None:
    tokenizer = load_tokenizer(minilm)
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.unknown_id) == (30_522, 0, 100)
    # Its file asks for padding to 128 and cutting at 128; neither is taken over.
    encoder = tokenizer.encoder(200)
    assert encoder.encode("a student").ids == [101, 1037, 3076, 102]
    assert len(encoder.encode("word " * 300).ids) == 200


def test_what_depends_on_the_tokenizer_is_named_by_its_content(make_tokenizer: MakeTokenizer) -> None:
    first = load_tokenizer(make_tokenizer()).sha256
    assert load_tokenizer(make_tokenizer(WORDS)).sha256 == first
    assert load_tokenizer(make_tokenizer([*WORDS, "more"])).sha256 != first
    assert load_tokenizer(make_tokenizer(pad_token="[SEP]")).sha256 != first


@pytest.mark.parametrize(
    ("config", "pad_id"),
    [({"pad_token": "b"}, 5), ({"pad_token": {"content": "c"}}, 6), ({"pad_token": "none"}, 0), ({}, 0)],
)
def test_the_padding_is_what_the_folder_says_or_the_usual(
    make_tokenizer: MakeTokenizer, config: dict[str, Any], pad_id: int
) -> None:
    assert load_tokenizer(make_tokenizer(**config)).pad_id == pad_id


def test_the_networks_own_padding_is_taken_last(make_tokenizer: MakeTokenizer, refused: Refused) -> None:
    folder = make_tokenizer(["x", "y", "z"], marks=False, unknown="x")
    with refused(TeacherError, "teacher.path", "names no token for padding; set pad_token"):
        load_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps({"pad_token_id": 2}))
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.pad_id, tokenizer.vocab_size, tokenizer.unknown_id) == (2, 3, 0)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "has no tokenizer.json; AutoTokenizer"),
        (b"", "is no tokenizer"),
        (b"{}", "is no tokenizer"),
        (b"\xff" * 100, "is no tokenizer"),
        (b"[" * 100_000, "is no tokenizer"),
        (b'{"version": "1.0", "model": {"type": "WordLevel", "vocab": {}, "unk_token": "x"}}', "knows no token"),
    ],
)
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, refused: Refused, content: bytes | None, part: str) -> None:
    pytest.importorskip("tokenizers", reason="the extra `text` is not installed")
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with refused(TeacherError, "teacher.path", part):
        load_tokenizer(tmp_path)


def test_a_file_too_large_is_not_read(tmp_path: Path, refused: Refused) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with refused(TeacherError, "teacher.path", "at most 67,108,864 are read"):
        load_tokenizer(tmp_path)


def test_without_the_extra_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refused: Refused
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    (tmp_path / "tokenizer.json").write_text("{}")
    with refused(InvalidRequest, "teacher", "pip install 'archsearch[text]'"):
        load_tokenizer(tmp_path)
