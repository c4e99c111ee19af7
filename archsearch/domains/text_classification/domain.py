"""What text classification is to the rooms that know no words."""

# N texts, B batch, T tokens, D features, K classes

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from archsearch.data import Limits
from archsearch.data.archive import listening
from archsearch.data.measured import Measured, Part
from archsearch.data.metrics import MACRO_F1, MCC, Metric, of_labels
from archsearch.data.prediction import Form, Listener, Prediction
from archsearch.data.shape import Shape
from archsearch.data.task import awaits_teacher
from archsearch.device import put_on, where
from archsearch.domains.domain import Beginning, CardFacts, Domain, Floats, Pace
from archsearch.domains.text import stored
from archsearch.domains.text.load import load_spec
from archsearch.domains.text.sizes import TextShape, TextSizes
from archsearch.domains.text.spec import LONGEST, SHORTEST, TextData
from archsearch.domains.text.table import TextTable
from archsearch.domains.text.task import TextDataset, TextSplit, TextTask
from archsearch.errors import InvalidRequest, TeacherError
from archsearch.request import DistillSpec, LocalTeacher, TimmTeacher, UploadedFolder
from archsearch.zoos.image_networks import is_image_network
from archsearch.zoos.transformers.folder import TEACHER_FILES, describe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archsearch.distill.group import Group
    from archsearch.distill.loader import Loader
    from archsearch.domains.text_classification.teacher import TextTeacher
    from archsearch.export.format import Format

# Held-out texts looked at, at most.
_MOST_TEXTS, _FEWEST_TEXTS = 1280, 64
_NO_TEACHER = (
    "a teacher of texts is a folder that the transformers library saved: give its path, or hf-hub:owner/name, or "
    "to a server a zip of it"
)
# What a request says of a table's columns.
_COLUMNS = ("text_column", "pair_column", "label_column", "split_column")
_LABELS = ("one label a text", "any number of labels a text")
# The library writes no names where there are two classes that nobody named.
_UNNAMED = ("LABEL_0", "LABEL_1")


@dataclass(frozen=True)
class OneView:
    """A text is shown as it is, so a teacher's answer to it can be kept."""

    count: int = 1

    @property
    def every(self) -> bool:
        """See `domain.Views`."""
        return True


class TextClassification:
    """See `Domain`."""

    name = "text_classification"
    examples = "texts"
    library = "transformers"
    loads_in = "% of the texts"
    an_example = '"some text"'
    coarse_of = "the words"
    sizes: type[Any] = TextSizes
    measured_on: type[Any] = TextShape
    grid = False
    attention = True
    # A text has one view, so passes teach less sooner than images' do; what is fine-tuned knows its language already,
    # and forgets it at the rates of a fresh network (docs/decisions/0026).
    pace = Pace(
        "texts",
        batch=64,
        epochs=10,
        steps=1000,
        most_epochs=100,
        tuning_lr=1e-4,
        tuning_batch=32,
        tuning_steps=600,
        tuning_epochs=(3, 30),
    )
    teacher_files: tuple[str, ...] = TEACHER_FILES

    def load(
        self,
        spec: TextData,
        limits: Limits | None,
        listener: Callable[[int, int], None] | None,
        cache: Path | None = None,
    ) -> TextTable:
        if listener is None:
            return load_spec(spec, limits)
        with listening(lambda share: listener(round(100 * share), 100)):
            return load_spec(spec, limits)

    def encode(
        self,
        dataset: TextTable,
        teacher: TextTeacher,
        cache: Path | None,
        listener: Callable[[int, int], None] | None = None,
    ) -> TextDataset:
        """The texts as ids of the teacher's tokens. Where none has a label, the teacher's classes are the task, and
        what it answers stands in their place."""
        from archsearch.domains.text.tokenise import tokenise
        from archsearch.teachers.stand_in import stand_in

        found = tokenise(dataset, teacher.tokenizer, cache=cache, listener=listener)
        return stand_in(found, teacher, listener) if awaits_teacher(found.task) else found

    def save_dataset(self, dataset: TextTable | TextDataset, folder: Path, *, own: bool = False) -> None:
        if isinstance(dataset, TextTable):
            stored.save_table(dataset, folder)
        else:
            stored.save_dataset(dataset, folder)

    def open_dataset(self, folder: Path) -> Any:
        return stored.open_stored(folder)

    def read_task(self, body: Mapping[str, Any]) -> TextTask:
        return TypeAdapter(TextTask).validate_python(body)

    def check(self, spec: DistillSpec, task: TextTask) -> None:
        """Every training suits texts: what is said of augmentation is of images, and left alone."""

    def shape(self, task: TextTask) -> Shape:
        return Shape((2, task.max_length), task.vocab_size)

    def told(self, task: TextTask) -> str:
        return f"texts of {task.max_length} tokens"

    def prepare(self, x: Tensor, task: TextTask) -> Tensor:
        """Ids and segments, as they are."""
        return x

    def coarse(self, split: TextSplit, features: int) -> Floats:
        """How often each token comes, tokens that fall together by their ids' remainder counted together."""
        found_ND = np.zeros((len(split), features))
        for start in range(0, len(split), 256):
            x_N2T = split.examples(slice(start, start + 256)).numpy()
            row_M, place_M = np.nonzero(x_N2T[:, 1] >= 0)
            np.add.at(found_ND, (start + row_M, x_N2T[row_M, 0, place_M] % features), 1)
        counts_ND: Floats = np.sqrt(found_ND)
        return counts_ND

    def metrics(self, task: TextTask) -> Sequence[Metric]:
        beside = (MACRO_F1, MCC) if task.kind == "classification" and task.truth == "labels" else ()
        return (*of_labels(task), *beside)

    def size(self, task: TextTask) -> dict[str, int]:
        known = {"vocab_size": task.vocab_size} if task.vocab_size else {}  # else no tokenizer is known yet
        return {"max_length": task.max_length, **known}

    def flags(self, task: TextTask) -> dict[str, int]:
        return self.size(task)

    def load_teacher(
        self,
        source: Any,
        weights: Path | None,
        dataset: Any,
        *,
        classes: Any = None,
        input_size: Any = None,
        head: Any = None,
        device: str = "cpu",
    ) -> TextTeacher:
        if (source.head if head is None else head) != "keep":
            raise InvalidRequest(
                "is for images; fine-tune an encoder of texts on them: archsearch train-teacher --from FOLDER",
                field="teacher.head",
            )
        loaded = self._load(source, weights, dataset, classes)
        put_on(loaded.model, device, "teacher")
        return loaded

    def _load(self, source: Any, weights: Path | None, dataset: Any, classes: Any) -> TextTeacher:
        from archsearch.domains.text_classification.teacher import load_text_teacher
        from archsearch.teachers.stand_in import check_stand_in
        from archsearch.zoos.transformers.hub import local_folder

        given = source.classes if classes is None else classes
        task = None if dataset is None else dataset.task
        if task is not None and awaits_teacher(task):
            check_stand_in("keep", given)
        if isinstance(source, TimmTeacher) and ":" in source.name:
            folder = local_folder(source.name)
            return load_text_teacher(folder, task, given, name=source.name, field="teacher.name")
        if isinstance(source, LocalTeacher):
            return load_text_teacher(source.path, task, given, name=source.path.name, field="teacher.path")
        if isinstance(source, UploadedFolder) and weights is not None:
            return load_text_teacher(weights, task, given, name=None, field="upload")
        raise TeacherError(_NO_TEACHER, field="teacher")

    def at_hand(self, name: str) -> bool:
        from archsearch.zoos.transformers.hub import at_hand

        return at_hand(name)

    def fetch(self, name: str) -> None:
        from archsearch.zoos.transformers.hub import fetch_folder

        fetch_folder(name)

    def save_teacher(self, teacher: TextTeacher, task: TextTask, folder: Path) -> None:
        self.save(teacher.model, task, folder, teacher)

    def begin_teacher(self, asked: Any, dataset: TextTable, scratch: Path) -> Beginning:
        from archsearch.domains.text_classification.beginning import begin_teacher

        return begin_teacher(asked, dataset, scratch)

    def facts(self, teacher: TextTeacher) -> dict[str, Any]:
        return {"max_length": teacher.max_length, "vocab_size": teacher.tokenizer.vocab_size}

    def describe(self, config: Mapping[str, Any], names: Collection[str], field: str) -> dict[str, Any]:
        return describe(config, names, field=field)

    def check_facts(self, facts: Mapping[str, Any], task: TextTask, field: str) -> None:
        if "in_chans" in facts:
            raise TeacherError("the teacher was trained on images, the data are texts", field=field)
        if facts.get("kind") == "timm" and ":" not in facts["name"]:
            raise TeacherError(f"{facts['name']} looks at images, the data are texts; {_NO_TEACHER}", field=field)
        if facts.get("input_size") is not None:
            raise InvalidRequest("texts have no pixels; leave it out", field=f"{field.partition('.')[0]}.input_size")
        most = facts.get("max_length", task.max_length)
        if task.max_length > most:
            raise TeacherError(
                f"the teacher reads {most} tokens of a text, the data have up to {task.max_length}; make the data set "
                f"with max_length {most}",
                field=field,
            )
        several = task.kind == "multilabel"
        if facts.get("multilabel", several) != several:
            raise TeacherError(
                f"the teacher gives {_LABELS[not several]}, the data have {_LABELS[several]}; use one trained on such",
                field=field,
            )

    def inherits(self, task: TextTask, teacher: TextTeacher) -> TextTask:
        return task

    def take_over(self, teacher: TextTeacher, model: nn.Module) -> None:
        model.load_state_dict(teacher.model.state_dict())

    def read_by(self, task: TextTask, facts: Mapping[str, Any]) -> TextTask:
        return replace(task, vocab_size=facts.get("vocab_size", task.vocab_size))

    def views(self, task: TextTask, spec: DistillSpec) -> OneView:
        return OneView()

    def loader(self, dataset: TextDataset, spec: DistillSpec, device: str, group: Group) -> Loader:
        from archsearch.domains.text_classification.loader import Bucketed

        return Bucketed(dataset, spec, device, group)

    def save(self, student: Any, task: TextTask, folder: Path, teacher: TextTeacher | None = None) -> None:
        from archsearch.zoos.transformers.save import save_student

        save_student(student, task, folder, folder if teacher is None else teacher.folder)
        self.write_reading(folder, task)

    def open(self, folder: Path) -> nn.Module:
        from archsearch.zoos.transformers.save import open_student

        return open_student(folder)

    def check_saved(self, student: Any, task: TextTask, folder: Path) -> None:
        from archsearch.zoos.transformers.library import quiet

        with quiet() as transformers:
            student.network.save_pretrained(folder)
            transformers.AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)

    def knows(self, config: Mapping[str, Any]) -> bool:
        return "model_type" in config and not is_image_network(config)

    def stock(self, config: Mapping[str, Any]) -> bool:
        return True

    def card(self, config: Mapping[str, Any], report: Mapping[str, Any], stock: bool) -> CardFacts:
        from archsearch.domains.text_classification.card import use_section
        from archsearch.zoos.transformers.network import MULTILABEL

        return CardFacts(
            architecture=config["model_type"],
            classes=len(config.get("id2label", _UNNAMED)),
            sized="texts",
            pipeline="text-classification",
            library=self.library,
            use=use_section(report),
            multilabel=config.get("problem_type") == MULTILABEL,
        )

    def open_task(self, folder: Path) -> TextTask:
        from archsearch.domains.text_classification.reading import task_of

        return task_of(folder)[0]

    def as_read(self, data: Mapping[str, Any], task: TextTask, learned: Mapping[str, Any]) -> dict[str, Any]:
        """Columns are called as those it learned from were."""
        named = {name: learned[name] for name in _COLUMNS if learned.get(name) is not None}
        return {**named, **data, "max_length": min(LONGEST, max(SHORTEST, task.max_length))}

    def load_measured(
        self,
        spec: TextData,
        task: TextTask,
        part: Part,
        folder: Path | None,
        learned_from: str | None,
        listener: Callable[[int, int], None] | None,
    ) -> Measured:
        from archsearch.domains.text_classification.beside import load_texts

        if listener is None:
            return load_texts(spec, task, part, folder, learned_from)
        with listening(lambda share: listener(round(100 * share), 100)):
            return load_texts(spec, task, part, folder, learned_from)

    def check_beside(self, name: str, other: Any, folder: Path, task: TextTask, field: str) -> None:
        from archsearch.domains.text_classification.beside import check_beside

        check_beside(name, other, folder, task, field)

    def predict(
        self,
        folder: Path,
        given: Sequence[Path | str],
        *,
        top: int,
        threshold: float,
        form: Form,
        columns: Sequence[str],
        listener: Listener | None,
        device: str = "cpu",
    ) -> list[Prediction]:
        from archsearch.domains.text_classification.predict import predict

        how: dict[str, Any] = {"form": form, "columns": columns, "listener": listener, "device": device}
        return predict(folder, given, top=top, threshold=threshold, **how)

    def formats(self) -> Sequence[Format]:
        from archsearch.domains.text_classification.onnx import FORMATS

        return FORMATS

    def held_out(self, split: TextSplit | None, task: TextTask) -> npt.NDArray[np.int64]:
        """N×2×T."""
        if split is None:
            noise: npt.NDArray[np.int64] = self.shape(task).noise(_FEWEST_TEXTS).numpy()
            return noise
        rows = np.linspace(0, len(split) - 1, min(_MOST_TEXTS, len(split))).round().astype(int)
        return self.raw(split.examples(rows))

    def raw(self, x: Tensor) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = x.numpy()
        return found

    def called(self, example: npt.NDArray[Any]) -> str:
        """With its padding: it is as long as the longest that was looked at."""
        return f"text of {example.shape[-1]} tokens"

    def reference(self, student: nn.Module, task: TextTask) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
        import torch

        @torch.inference_mode()
        def answer(x_B2T: npt.NDArray[Any]) -> npt.NDArray[Any]:
            x = torch.from_numpy(np.ascontiguousarray(x_B2T)).to(where(student))
            logits: npt.NDArray[Any] = student(x).cpu().numpy()
            return logits

        return answer

    def write_reading(self, folder: Path, task: TextTask) -> None:
        """The tokenizer lies beside the weights already; how long texts may be is said with it."""
        from archsearch.domains.text_classification.reading import write_reading

        write_reading(folder, task)

    def measure_from_file(
        self, file: str, answer: Any, settings: Any, expected_NK: Any, subject: Any, tolerance: float | None
    ) -> None:
        """A text's way to its ids is the tokenizer's, which is the same for every format."""


DOMAIN: Domain = TextClassification()
