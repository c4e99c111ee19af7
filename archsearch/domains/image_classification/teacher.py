"""From what a request names to a teacher of images, whichever library it is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from archsearch.device import put_on
from archsearch.domains.images.task import ImageDataset
from archsearch.errors import TeacherError
from archsearch.request import (
    ClassMap,
    LocalTeacher,
    OnnxTeacher,
    TimmTeacher,
    UploadedFolder,
    UploadedTeacher,
    is_onnx,
)
from archsearch.teachers import ImageTeacher, at_best_size, describe_folder, load_teacher
from archsearch.teachers.normalisation import at_best_normalisation
from archsearch.teachers.order import in_order_of

Source = TimmTeacher | LocalTeacher | UploadedTeacher | UploadedFolder | OnnxTeacher
InputSize = int | Sequence[int] | None


def load(
    source: Source,
    weights: Path | None,
    dataset: ImageDataset | None,
    *,
    classes: ClassMap | None = None,
    input_size: InputSize = None,
    device: str = "cpu",
) -> ImageTeacher:
    """See `Domain.load_teacher`; where a config only says timm's default resolution, at the better one of two, and
    where nobody says how an ONNX graph is shown pixels, as it is right with."""
    if isinstance(source, OnnxTeacher) or (isinstance(source, LocalTeacher) and is_onnx(source.path)):
        return _of_onnx(source, weights, dataset, source.classes if classes is None else classes, input_size)
    if isinstance(source, UploadedFolder) and weights is not None:
        # Nobody vouches for its config.json: what timm would read in it is described, and checked, as in a request.
        input_size = source.input_size if input_size is None else input_size
        fields = {**describe_folder(weights), "upload": source.upload, "classes": source.classes}
        source, weights = UploadedTeacher(**fields), weights / "model.safetensors"
    assert not isinstance(source, UploadedFolder)  # whose folder is always at hand
    loaded = load_teacher(source, weights, None if dataset is None else dataset.task, classes, input_size)
    put_on(loaded.model, device, "teacher")
    return loaded if dataset is None else at_best_size(loaded, dataset)


def _of_onnx(
    source: LocalTeacher | OnnxTeacher,
    weights: Path | None,
    dataset: ImageDataset | None,
    classes: ClassMap | None,
    input_size: InputSize,
) -> ImageTeacher:
    """A black box, on the processor whatever the device."""
    from archsearch.zoos.onnx.load import load_onnx

    path, field = (source.path, "teacher.path") if isinstance(source, LocalTeacher) else (weights, "upload")
    if path is None:
        raise TeacherError("the uploaded ONNX file is not at hand", field=field)
    if not path.is_file():
        raise TeacherError(f"{path} is not there", field=field)
    loaded = load_onnx(path, source, None if dataset is None else dataset.task, input_size, field=field)
    if dataset is None:
        return loaded.teacher
    teacher = in_order_of(dataset.task, loaded.teacher, classes)
    return teacher if loaded.normalised else at_best_normalisation(teacher, dataset)
