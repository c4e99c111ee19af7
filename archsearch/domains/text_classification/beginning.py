"""What a text teacher's training begins with: a trained encoder, with a new head for the data's classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsearch.domains.domain import Beginning
from archsearch.domains.text.table import TextTable
from archsearch.domains.text.tokenise import tokenise
from archsearch.domains.text.tokenizer import load_tokenizer
from archsearch.domains.text_classification.reading import write_reading
from archsearch.errors import InvalidRequest


def begin_teacher(asked: Any, dataset: TextTable, scratch: Path) -> Beginning:
    """See `Domain.begin_teacher`."""
    from archsearch.zoos.transformers.hub import local_folder
    from archsearch.zoos.transformers.load import begin_training
    from archsearch.zoos.transformers.save import save_student

    for field in ("model", "model_args", "input_size"):
        if getattr(asked, field):
            detail = "a teacher of texts is made of the encoder it begins with, and has no pixels; leave it out"
            raise InvalidRequest(detail, field=field)
    if not isinstance(asked.pretrained, str):
        raise InvalidRequest(
            "a teacher of texts begins with a trained encoder: name a folder of the transformers library, or "
            "hf-hub:owner/name",
            field="pretrained",
        )
    folder = local_folder(asked.pretrained, field="pretrained")
    data = tokenise(dataset, load_tokenizer(folder, field="pretrained"), cache=scratch)
    model = begin_training(folder, data.task, asked.distill.seed, field="pretrained")

    def save(out: Path) -> None:
        save_student(model, data.task, out, folder)
        write_reading(out, data.task)

    return Beginning(
        trained=model,
        named=model,
        dataset=data,
        optimizer="adamw",
        told=f"{Path(asked.pretrained).name}, fine-tuned",
        facts={"max_length": data.task.max_length},
        save=save,
    )
