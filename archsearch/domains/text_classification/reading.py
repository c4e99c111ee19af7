"""What becomes of a text before a student sees it, said once in its folder: how long it may be, and whether a pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from archsearch.data.task import Kind
from archsearch.domains.text.spec import LONGEST
from archsearch.domains.text.task import TextTask
from archsearch.domains.text.tokenizer import TextTokenizer, load_tokenizer
from archsearch.errors import InvalidRequest, TeacherError
from archsearch.export.files import PREPROCESSING
from archsearch.whole import write_whole

_TOKENIZER_CONFIG = "tokenizer_config.json"


class Reading(BaseModel):
    """From a text to ids, and from answers to names.

    Attributes:
        max_length: Tokens of a text, the tokenizer's own marks included; of longer ones the end is cut off.
        pair: Whether each example is two texts.
        labels: Names of the classes, in the order of the answers; empty where they have only numbers.
        label_shares: Of the training texts, by class or label; empty where they are not known.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_length: int = Field(ge=1)
    pair: bool
    labels: tuple[str, ...] = ()
    label_shares: tuple[float, ...] = ()
    kind: Kind = "classification"
    input: str = "tokenizer.json"


def write_reading(folder: Path, task: TextTask) -> None:
    """Write `preprocessing.json`, and the length into the tokenizer's own configuration, by which the library cuts."""
    said = Reading(
        max_length=task.max_length,
        pair=task.pair,
        labels=task.class_names,
        label_shares=task.prevalence,
        kind=task.kind,
    )
    write_whole(folder / PREPROCESSING, json.dumps(said.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")
    path = folder / _TOKENIZER_CONFIG
    config = _mapping(path)
    if config.get("model_max_length") != task.max_length:
        write_whole(
            path, json.dumps({**config, "model_max_length": task.max_length}, indent=2, ensure_ascii=False) + "\n"
        )


def read_reading(folder: Path) -> Reading | None:
    """What a folder says of it; None where it says nothing, as the library's own. Raises InvalidRequest for damage."""
    path = folder / PREPROCESSING
    if not path.is_file():
        return None
    try:
        return Reading.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InvalidRequest(
            f"{path} is damaged ({type(error).__name__}); `archsearch export {folder} --data …` makes it again where "
            "it is removed",
            field="folder",
        ) from None


def task_of(folder: Path) -> tuple[TextTask, TextTokenizer]:
    """The task a folder's network was made for, as far as its files tell, and its tokenizer; needs no torch.

    Of a network the library saved itself: texts as long as its tokenizer takes, 512 tokens at most, and single ones.
    Raises InvalidRequest.
    """
    from archsearch.zoos.transformers.folder import class_names, require_encoder

    try:
        config, family = require_encoder(folder, field="folder")
        tokenizer = load_tokenizer(folder, field="folder")
    except TeacherError as error:
        raise InvalidRequest(error.detail, field="folder") from None
    said = read_reading(folder)
    classes = _classes(config)
    if said is None:
        most = _mapping(folder / _TOKENIZER_CONFIG).get("model_max_length")
        longest = min(family.positions(config), LONGEST, most if isinstance(most, int) and most > 0 else LONGEST)
        kind: Kind = "multilabel" if config.get("problem_type") == "multi_label_classification" else "classification"
        said = Reading(max_length=longest, pair=False, labels=class_names(config, classes), kind=kind)
    labels = said.labels if len(said.labels) == classes else class_names(config, classes)
    task = TextTask(
        classes, said.max_length, tokenizer.vocab_size, tokenizer.pad_id, said.pair, labels, said.kind,
        said.label_shares if len(said.label_shares) == classes else (),
    )  # fmt: skip
    return task, tokenizer


def _classes(config: dict[str, Any]) -> int:
    named = config.get("id2label")
    if isinstance(named, dict) and named:
        return len(named)
    count = config.get("num_labels", 2)  # which the library does not write down
    return count if isinstance(count, int) else 2


def _mapping(path: Path) -> dict[str, Any]:
    """The mapping in a file that may be missing or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
