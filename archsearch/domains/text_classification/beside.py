"""Texts that a saved network is measured on, and other networks that are asked about the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsearch.data.measured import Measured, Part
from archsearch.domains.text.measured import load_measured
from archsearch.domains.text.spec import TextData
from archsearch.domains.text.task import TextTask
from archsearch.domains.text_classification.reading import read_reading, task_of
from archsearch.errors import InvalidRequest


def load_texts(spec: TextData, task: TextTask, part: Part, folder: Path | None, learned_from: str | None) -> Measured:
    """See `Domain.load_measured`."""
    if folder is None:
        raise InvalidRequest("texts are read by the tokenizer of a saved network; name its folder", field="--data")
    said, tokenizer = read_reading(folder), task_of(folder)[1]
    paired = None if said is None else said.pair
    return load_measured(spec, task, tokenizer, part, paired=paired, learned_from=learned_from)


def check_beside(name: str, other: Any, folder: Path, task: TextTask, field: str) -> None:
    """See `Domain.check_beside`."""
    own, tokenizer = task_of(folder)
    if isinstance(other, Path):
        theirs, other_tokenizer = task_of(other)
        classes, longest = theirs.classes, theirs.max_length
    else:
        classes, longest, other_tokenizer = other.num_classes, other.max_length, other.tokenizer
    if classes != task.classes:
        raise InvalidRequest(f"{name} tells {classes} classes apart, the data has {task.classes}", field=field)
    if other_tokenizer.sha256 != tokenizer.sha256:
        raise InvalidRequest(f"{name} has another tokenizer than the student, and reads other ids", field=field)
    if longest < own.max_length:
        detail = f"{name} reads {longest} tokens of a text, the student {own.max_length}"
        raise InvalidRequest(detail, field=field)
