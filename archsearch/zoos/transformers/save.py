"""A student as a folder that the transformers library loads without us, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsearch.data.task import Task
from archsearch.device import on_cpu
from archsearch.errors import InvalidRequest, TeacherError
from archsearch.whole import write_whole
from archsearch.zoos.transformers.folder import TOKENIZER_FILES, read_folder
from archsearch.zoos.transformers.library import quiet
from archsearch.zoos.transformers.load import read_classifier
from archsearch.zoos.transformers.network import EncoderClassifier, with_labels


def save_student(network: EncoderClassifier, task: Task, folder: Path, tokenizer: Path) -> None:
    """Write `config.json` and `model.safetensors`, and the tokenizer's files beside them.

    Args:
        tokenizer: A folder with the tokenizer the student was taught with: its teacher's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stock: Any = on_cpu(network.network)
    with_labels(stock.config, task)
    with quiet():
        stock.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file() and tokenizer.resolve() != folder.resolve():
            write_whole(folder / name, (tokenizer / name).read_bytes())


def open_student(folder: Path | str) -> EncoderClassifier:
    """The student of a folder, in eval mode, loaded strictly; raises InvalidRequest where it is no such folder."""
    try:
        return read_classifier(read_folder(Path(folder), field="folder"), "folder").eval()
    except TeacherError as error:
        raise InvalidRequest(error.detail, field="folder") from error
