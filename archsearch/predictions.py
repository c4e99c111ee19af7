"""What a finished student says of new examples: photos by file, texts as they are or a table of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from archsearch.data.prediction import Form, Listener, Prediction
from archsearch.device import checked, kind, resolve
from archsearch.errors import UnknownName
from archsearch.export.student import domain_of

__all__ = ["Form", "Prediction", "predict"]


def predict(
    student: Path | str,
    examples: Path | str | Sequence[Path | str],
    *,
    top: int = 3,
    threshold: float = 0.5,
    form: Form = "auto",
    columns: Sequence[str] = (),
    listener: Listener | None = None,
    device: str = "auto",
) -> list[Prediction]:
    """What a student says of examples, in their order; nothing is looked up on a network.

    Args:
        student: Folder of a student, or of any network its library saved.
        examples: Image files, folders of them, or zips; of a student of texts the texts themselves (of pairs two each),
            or csv, tsv, jsonl and txt files.
        top: Most classes told of an example that has one.
        threshold: Least probability of a label, of examples that may have many.
        form: Which of the student's files answers: its weights (`torch`), `onnx`, `int8` or `pt2`; `auto` takes ONNX
            where it is there, which starts fastest.
        columns: Of a table, where the usual names do not tell: that of the text, or both of a pair.
        listener: Called with examples done and examples in all.
        device: Where weights answer: `auto`, `cpu`, `cuda` or `cuda:1`. The other files run on this processor.

    Raises:
        InvalidRequest: There is no such student, form or example.
    """
    if form not in get_args(Form):
        raise UnknownName("form", form, get_args(Form), field="form")
    given = [examples] if isinstance(examples, Path | str) else examples
    # Whether a GPU is there is asked of torch, which may not be needed.
    where = resolve(device) if kind(checked(device)) == "cuda" else device
    how: dict[str, Any] = {"form": form, "columns": columns, "listener": listener, "device": where}
    return domain_of(student).predict(Path(student), given, top=top, threshold=threshold, **how)
