"""A trained encoder with its classifier and its tokenizer, as a teacher."""

# B batch, T tokens, K classes

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.data.notes import Note
from archsearch.data.shape import Shape
from archsearch.data.task import awaits_teacher
from archsearch.device import where
from archsearch.domains.text.task import TextTask
from archsearch.domains.text.tokenizer import TextTokenizer, load_tokenizer
from archsearch.errors import TeacherError
from archsearch.request import ClassMap
from archsearch.teachers.classes import order_of
from archsearch.teachers.stand_in import check_stand_in

if TYPE_CHECKING:
    from torch import Tensor

    from archsearch.zoos.transformers.network import EncoderClassifier


@dataclass(frozen=True)
class TextTeacher:
    """See `domains.domain.Teacher`.

    Attributes:
        folder: Where it lies; its students take their tokenizer from there.
        tokenizer: What texts become ids by.
        max_length: Tokens of one text, at most (count).
    """

    name: str
    model: EncoderClassifier
    num_classes: int
    sha256: str
    folder: Path
    tokenizer: TextTokenizer
    max_length: int
    namings: tuple[tuple[str, ...], ...] = ()
    order: tuple[int, ...] | None = None
    classes_given: bool = False
    notes: tuple[Note, ...] = ()

    @property
    def identity(self) -> str:
        args = json.dumps(dict(self.model._model_args), sort_keys=True, default=str)
        moved = "" if self.order is None else f" {self.order}"
        return f"{self.sha256} {self.tokenizer.sha256} {args}{moved}"

    def require(self, task: TextTask) -> None:
        if task.max_length > self.max_length:
            raise TeacherError(
                f"{self.name} takes {self.max_length} tokens, the data has up to {task.max_length}; set "
                f"data.max_length to {self.max_length}",
                field="teacher",
            )

    def shape(self, task: TextTask) -> Shape:
        return Shape((2, task.max_length), task.vocab_size)

    def told(self, task: TextTask) -> str:
        return f"texts of {task.max_length} tokens"

    def prepare(self, x: Tensor) -> Tensor:
        """Ids and segments B×2×T, as they are."""
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Logits B×K."""
        logits_BK: Tensor = self.model(x.to(where(self.model)))
        return logits_BK


def load_text_teacher(
    folder: Path, task: TextTask | None, given: ClassMap | None, *, name: str | None, field: str = "teacher.path"
) -> TextTeacher:
    """A folder of the transformers library, loaded strictly, its outputs in the order of the data's classes.

    Args:
        task: What it will be asked about; without one the outputs stay as they are.
        name: What it is called; its family's name where nothing tells.
        field: Of a request that names the folder.
    """
    from archsearch.zoos.transformers.load import load_folder

    found = load_folder(folder, field=field)
    name = name or found.model.family.model_type
    if task is not None and awaits_teacher(task):
        check_stand_in("keep", None, many=bool(found.multilabel))
    if task is not None and found.multilabel not in (None, task.kind == "multilabel"):
        kinds = ("one label a text", "any number of labels a text")
        raise TeacherError(
            f"{name} was trained on {kinds[bool(found.multilabel)]}, the data has {kinds[not found.multilabel]}",
            field="teacher",
        )
    teacher = TextTeacher(
        name=name,
        model=found.model,
        num_classes=found.num_classes,
        sha256=found.sha256,
        folder=folder,
        tokenizer=load_tokenizer(folder, field=field),
        max_length=found.max_length,
        namings=(found.class_names,) if found.class_names else (),
    )
    if task is None:
        return teacher
    order, notes = order_of(teacher.name, teacher.namings, teacher.num_classes, task, given)
    if order is not None:
        _move(teacher.model, order)
        teacher = replace(teacher, num_classes=len(order), order=tuple(order))
    return replace(teacher, notes=tuple(notes), classes_given=given is not None)


def _move(model: EncoderClassifier, order: Any) -> None:
    """Put the classifier's rows in another order, in place."""
    from torch import nn

    head, rows = model.get_classifier(), list(order)
    head.weight = nn.Parameter(head.weight[rows].clone(), requires_grad=False)
    if head.bias is not None:
        head.bias = nn.Parameter(head.bias[rows].clone(), requires_grad=False)
    head.out_features = model.num_classes = len(rows)
