"""A folder the transformers library saved, read before the library does: strictly, and running nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.errors import TeacherError
from archsearch.teacher_config import check_count, check_plain
from archsearch.teachers.source import check_weights_file
from archsearch.zoos.encoders import FAMILIES, KNOWN, Family
from archsearch.zoos.transformers.library import library

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
# What a tokenizer may consist of beside its one file that tells everything; older readers want these.
TOKENIZER_FILES = (
    TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json",
    "merges.txt",
)  # fmt: skip
# All that is ever read of a folder, and what its students take along.
TEACHER_FILES = (CONFIG, WEIGHTS, *TOKENIZER_FILES)
# Fields that name code, or that would have the library make another network than the one described.
NO_CODE = {
    "auto_map": "it names code of its own (auto_map), which is never run",
    "custom_pipelines": "it names code of its own (custom_pipelines), which is never run",
    "quantization_config": "its weights are quantised; save the network in fp32",
}
_REFUSED = {
    **NO_CODE,
    "is_decoder": "it is a decoder",
    "add_cross_attention": "it attends to another network",
    "sinusoidal_pos_embds": "its positions are not learned (sinusoidal_pos_embds)",
    "pruned_heads": "heads are cut out of some of its layers (pruned_heads)",
}
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
# Far beyond every encoder, and far below what would take hours to build.
_MOST = {"layers": 256, "heads": 1024, "hidden": 65_536, "ffn": 262_144}
_MOST_TOKENS, _MOST_POSITIONS = 10_000_000, 1_000_000
_MOST_CONFIG_BYTES = 2**22


@dataclass(frozen=True)
class EncoderFolder:
    """What a folder says of its network before that is built.

    Attributes:
        config: Its config.json.
        tokens: Of its tokenizer (count): one more than the largest id.
    """

    path: Path
    config: Mapping[str, Any]
    family: Family
    tokens: int

    @property
    def max_length(self) -> int:
        """Tokens of one text, at most."""
        return self.family.positions(self.config)


def is_encoder(folder: Path) -> bool:
    """Whether a folder's config.json is the transformers library's, of whatever network."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and "model_type" in config and "pretrained_cfg" not in config


def read_folder(folder: Path, *, field: str = "teacher.path") -> EncoderFolder:
    """What is in a folder; raises TeacherError saying what is missing, what is refused, and what to do.

    Only `config.json`, `model.safetensors` and `tokenizer.json` are ever read; needs no torch.
    """
    config, family = require_encoder(folder, field=field)
    _require_files({path.name for path in folder.iterdir()}, str(folder), field)
    check_weights_file(folder / WEIGHTS, field=field)
    tokens = count_tokens(folder, field=field)
    if tokens > config["vocab_size"]:
        raise TeacherError(
            f"{folder}: the tokenizer knows {tokens:,} tokens, the network has embeddings for "
            f"{config['vocab_size']:,}; they are not of one network",
            field=field,
        )
    return EncoderFolder(folder, config, family, tokens)


def require_encoder(folder: Path, *, field: str) -> tuple[dict[str, Any], Family]:
    """A folder's config.json and the family it is of; raises TeacherError where it is no encoder known here."""
    config = read_config(folder, field)
    try:
        return config, check_config(config)
    except ValueError as error:
        raise TeacherError(f"{folder}/{CONFIG}: {error}", field=field) from None


def describe(config: Mapping[str, Any], names: Collection[str], *, field: str) -> dict[str, Any]:
    """What a teacher's config.json tells of it, as plain JSON; raises TeacherError as `read_folder` does.

    Args:
        names: Of the files beside it.
    """
    try:
        family = check_config(config)
    except ValueError as error:
        raise TeacherError(f"{CONFIG}: {error}", field=field) from None
    _require_files(names, "the folder", field)
    # Of its tokens only the tokenizer tells: embeddings may have rows for more.
    told = {"architecture": family.model_type, "max_length": family.positions(config)}
    if (kind := config.get("problem_type")) is not None:
        told["multilabel"] = kind == "multi_label_classification"
    if (classes := _answers(config)) is None:
        return told
    if classes < 2 or kind == "regression":
        raise TeacherError("it answers with a number (regression), and tells no classes apart", field=field)
    called = class_names(config, classes)
    return {**told, "num_classes": classes, **({"class_names": list(called)} if called else {})}


def _answers(config: Mapping[str, Any]) -> int | None:
    """How many answers a network gives by its config.json; None where that does not say whether it gives any."""
    names, count, kinds = config.get("id2label"), config.get("num_labels"), config.get("architectures")
    if isinstance(names, Mapping) and names:
        return len(names)
    if isinstance(count, int) and not isinstance(count, bool):
        return count
    answers = isinstance(kinds, list) and any(str(kind).endswith("ForSequenceClassification") for kind in kinds)
    return 2 if answers else None  # which the library does not write down


def check_config(config: Any) -> Family:
    """The family of a config.json; raises ValueError naming the field that is wrong."""
    check_plain(config, "config")
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(f"model_type {kind!r:.60} is no encoder known here; there are {KNOWN}")
    for name, reason in _REFUSED.items():
        if config.get(name):
            raise ValueError(reason)
    family = FAMILIES[kind]
    sizes = {
        name: check_count(config.get(family.names[name]), 1, most, family.names[name]) for name, most in _MOST.items()
    }
    if sizes["hidden"] % sizes["heads"]:
        raise ValueError(f"a width of {sizes['hidden']} is no multiple of {sizes['heads']} heads")
    check_count(config.get("vocab_size"), 1, _MOST_TOKENS, "vocab_size")
    check_count(config.get("max_position_embeddings"), 2, _MOST_POSITIONS, "max_position_embeddings")
    if kind == "roberta":
        check_count(config.get("pad_token_id"), 0, config["max_position_embeddings"] - 2, "pad_token_id")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"position_embedding_type {config['position_embedding_type']!r:.60}; only absolute is known")
    return family


def count_tokens(folder: Path, *, field: str = "teacher.path") -> int:
    """One more than the largest id a tokenizer gives."""
    tokenizers = library("tokenizers")
    try:
        vocabulary = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER)).get_vocab(with_added_tokens=True)
    except Exception as error:  # the library raises bare exceptions
        raise TeacherError(f"{folder}/{TOKENIZER} is no tokenizer ({error})", field=field) from None
    return 1 + max(vocabulary.values(), default=-1)


def class_names(config: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """The names of `id2label`, in order; empty where it has none, or only the library's own (LABEL_0)."""
    names = config.get("id2label")
    if not isinstance(names, Mapping) or {str(number) for number in names} != set(map(str, range(classes))):
        return ()
    found = tuple(str(names[number] if number in names else names[int(number)]) for number in map(str, range(classes)))
    own = tuple(f"LABEL_{number}" for number in range(classes))
    return found if len(set(found)) == classes and all(found) and found != own else ()


def read_config(folder: Path, field: str) -> dict[str, Any]:
    path = folder / CONFIG
    if not folder.is_dir():
        raise TeacherError(f"{folder} is no folder; give one with {CONFIG}, {WEIGHTS} and {TOKENIZER}", field=field)
    if not path.is_file():
        raise TeacherError(f"{folder} has no {CONFIG} that says of which network it is", field=field)
    try:
        if path.stat().st_size > _MOST_CONFIG_BYTES:
            raise ValueError("it is too large for a configuration")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TeacherError(f"{path} cannot be read: {error}", field=field) from None
    if not isinstance(config, dict):
        raise TeacherError(f"{path} holds no mapping, and is no configuration", field=field)
    return config


def _require_files(names: Collection[str], folder: str, field: str) -> None:
    if "adapter_config.json" in names:
        raise TeacherError(
            f"{folder} is an adapter (PEFT); merge it (merge_and_unload) and save the whole network", field=field
        )
    if WEIGHTS not in names:
        raise TeacherError(without_weights(names, folder), field=field)
    if TOKENIZER not in names:
        raise TeacherError(
            f"{folder} has no {TOKENIZER}; AutoTokenizer.from_pretrained(…).save_pretrained(…) writes one", field=field
        )


def without_weights(names: Collection[str], folder: str) -> str:
    if f"{WEIGHTS}.index.json" in names:
        return f"{folder} has its weights in parts; save them in one: save_pretrained(…, max_shard_size='100GB')"
    for name in _PICKLES:
        if name in names:
            what = "pickled weights, which can run code when read" if ".bin" in name else "weights of another library"
            return (
                f"{folder}/{name}: {what}; load the network where it was made and save it again with "
                "save_pretrained(…), which writes model.safetensors"
            )
    return f"{folder} has no {WEIGHTS}"
