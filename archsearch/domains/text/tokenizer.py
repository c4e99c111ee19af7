"""A teacher's tokenizer: the `tokenizer.json` of its folder, which is read by a library that runs none of its code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.errors import InvalidRequest, TeacherError

FILE = "tokenizer.json"
# The largest in use, of a quarter of a million tokens, has 33 MB.
MOST_BYTES, _MOST_CONFIG_BYTES = 64 * 2**20, 2**22
# How tokens for padding are called where nothing says which it is.
_PADS = ("[PAD]", "<pad>", "<PAD>")


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer as plain data.

    Attributes:
        content: Of its tokenizer.json.
        vocab_size: One more than the largest id (count).
        pad_id: The id that fills up shorter texts.
        unknown_id: The id of what is in no token; None where there is no such thing.
        sha256: Names content and pad_id.
    """

    content: bytes
    vocab_size: int
    pad_id: int
    unknown_id: int | None
    sha256: str

    def encoder(self, max_length: int) -> Any:
        """A `tokenizers.Tokenizer` that cuts texts after `max_length` tokens, its own marks included, and pads none."""
        tokenizer = _library().Tokenizer.from_buffer(self.content)
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        return tokenizer


def load_tokenizer(folder: Path, *, field: str = "teacher.path") -> TextTokenizer:
    """The tokenizer of a folder the transformers library saved; raises TeacherError saying what is wrong with it.

    Reads tokenizer.json and, for the token that pads, tokenizer_config.json, special_tokens_map.json and config.json.
    Raises InvalidRequest where the extra `text` is not installed.
    """
    content = _read(folder / FILE, MOST_BYTES, field)
    if content is None:
        raise TeacherError(
            f"{folder.name} has no {FILE}; AutoTokenizer.from_pretrained(…).save_pretrained(…) writes one", field=field
        )
    library = _library()
    try:
        tokenizer = library.Tokenizer.from_buffer(content)
        vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    except Exception as error:  # the library also raises bare exceptions
        raise TeacherError(f"{folder.name}/{FILE} is no tokenizer ({error!s:.200})", field=field) from None
    if not vocabulary:
        raise TeacherError(f"{folder.name}/{FILE} knows no token", field=field)
    pad_id = _pad_id(folder, tokenizer, field)
    name = hashlib.sha256(content + f"\npad {pad_id}".encode()).hexdigest()
    return TextTokenizer(content, 1 + max(vocabulary.values()), pad_id, _unknown_id(content, vocabulary), name)


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise InvalidRequest("tokenizers is not installed: pip install 'archsearch[text]'", field="teacher") from None
    return tokenizers


def _read(path: Path, most: int, field: str) -> bytes | None:
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > most:
            detail = f"{path.name} has {path.stat().st_size:,} bytes, at most {most:,} are read"
            raise TeacherError(detail, field=field)
        return path.read_bytes()
    except OSError as error:
        raise TeacherError(f"{path.name} cannot be read ({error.strerror})", field=field) from None


def _pad_id(folder: Path, tokenizer: Any, field: str) -> int:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = _json(folder / name, field).get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) and (found := tokenizer.token_to_id(token)) is not None:
            return int(found)
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    for token in _PADS:
        if (found := tokenizer.token_to_id(token)) is not None:
            return int(found)
    told = _json(folder / "config.json", field).get("pad_token_id")
    if isinstance(told, int) and not isinstance(told, bool) and tokenizer.id_to_token(told) is not None:
        return told
    raise TeacherError(
        f"{folder.name} names no token for padding; set pad_token in tokenizer_config.json to one of {FILE}",
        field=field,
    )


def _json(path: Path, field: str) -> dict[str, Any]:
    """The mapping in a file that may be missing; one that is damaged tells nothing either."""
    try:
        found = json.loads(_read(path, _MOST_CONFIG_BYTES, field) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _unknown_id(content: bytes, vocabulary: dict[str, int]) -> int | None:
    model = json.loads(content)["model"]
    unknown = model.get("unk_token")
    found = vocabulary.get(unknown) if isinstance(unknown, str) else model.get("unk_id")
    return found if isinstance(found, int) else None
