"""From what a request names to a teacher of images, whichever library it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from archsearch.data.task import awaits_teacher
from archsearch.device import put_on
from archsearch.domains.images.task import ImageDataset, ImageTask
from archsearch.errors import TeacherError
from archsearch.request import (
    ClassMap,
    Head,
    LocalTeacher,
    OnnxTeacher,
    TimmTeacher,
    UploadedFolder,
    UploadedTeacher,
    first_error,
    is_onnx,
)
from archsearch.teachers import ImageTeacher, at_best_size, check_source, describe_folder, load_teacher
from archsearch.teachers.facts import check_map
from archsearch.teachers.hub import require_plain_config
from archsearch.teachers.normalisation import at_best_normalisation
from archsearch.teachers.order import in_order_of
from archsearch.teachers.probe import probed
from archsearch.teachers.stand_in import check_stand_in
from archsearch.whole import read_kept
from archsearch.zoos.image_networks import is_image_network
from archsearch.zoos.onnx.load import load_onnx
from archsearch.zoos.transformers.image_folder import is_image_folder
from archsearch.zoos.transformers.image_load import fetch_image_network, load_image_network

Source = TimmTeacher | LocalTeacher | UploadedTeacher | UploadedFolder | OnnxTeacher
InputSize = int | Sequence[int] | None


@dataclass(frozen=True)
class _Asked:
    """What a teacher will be asked, as far as a request says it; `fits` where a head is fitted to the data."""

    dataset: ImageDataset | None
    classes: ClassMap | None
    input_size: InputSize
    fits: bool

    @property
    def task(self) -> ImageTask | None:
        return None if self.dataset is None else self.dataset.task

    @property
    def ordered(self) -> ImageTask | None:
        """The task whose classes its answers have; None where they are its own, or a head's that is to be fitted."""
        return None if self.fits or self.task is None or awaits_teacher(self.task) else self.task


def load(
    source: Source,
    weights: Path | None,
    dataset: ImageDataset | None,
    *,
    classes: ClassMap | None = None,
    input_size: InputSize = None,
    head: Head | None = None,
    device: str = "cpu",
) -> ImageTeacher:
    """See `Domain.load_teacher`; where a config only says timm's default resolution, at the better one of two, and
    where nobody says how an ONNX graph is shown pixels, as it is right with."""
    head = source.head if head is None else head
    fits = head != "keep"
    asked = _Asked(dataset, source.classes if classes is None else classes, input_size, fits)
    if asked.task is not None and awaits_teacher(asked.task):
        check_stand_in(head, asked.classes, many=_is_many(source, weights))
    check_map(asked.classes, head, "teacher")
    if isinstance(source, OnnxTeacher) or (isinstance(source, LocalTeacher) and is_onnx(source.path)):
        found = _of_onnx(source, weights, asked)
    elif (folder := _of_transformers(source, weights)) is not None:
        found = _of_images(folder, source, asked, device)
    else:
        found = _of_timm(source, weights, asked, device)
    return probed(found, dataset) if fits and dataset is not None else found


def _is_many(source: Source, weights: Path | None) -> bool:
    """Whether the config.json that comes with a source says that an image may have any number of labels."""
    from archsearch.export.folder import MULTILABEL

    place = source.path if isinstance(source, LocalTeacher) else weights if isinstance(source, UploadedFolder) else None
    config = source.config if isinstance(source, UploadedTeacher) else None
    if place is not None and place.is_dir():
        config = read_kept(place / "config.json")
    return isinstance(config, dict) and config.get("problem_type") == MULTILABEL


def _of_transformers(source: Source, weights: Path | None) -> Path | None:
    """The folder of the transformers library that a request names, fetched if it is a hub's; None of any other's."""
    if isinstance(source, TimmTeacher):
        check_source(source, field="teacher")
        if ":" not in source.name or not is_image_network(require_plain_config(source.name)[1]):
            return None
        return fetch_image_network(source.name)
    place = source.path if isinstance(source, LocalTeacher) else weights if isinstance(source, UploadedFolder) else None
    return place if place is not None and is_image_folder(place) else None


def _of_images(folder: Path, source: Source, asked: _Asked, device: str) -> ImageTeacher:
    """A network of the transformers library."""
    fields = {"timm": "teacher.name", "local": "teacher.path"}
    named = (
        source.name if isinstance(source, TimmTeacher) else folder.name if isinstance(source, LocalTeacher) else None
    )
    size = source.input_size if asked.input_size is None else asked.input_size
    field = fields.get(source.kind, "upload")
    found = load_image_network(folder, asked.task, size, name=named, embeds=asked.fits, field=field)
    if asked.ordered is not None:
        found = in_order_of(asked.ordered, found, asked.classes)
    put_on(found.model, device, "teacher")
    return found


def _of_timm(source: Source, weights: Path | None, asked: _Asked, device: str) -> ImageTeacher:
    input_size = asked.input_size
    if isinstance(source, UploadedFolder) and weights is not None:
        # Nobody vouches for its config.json: what timm would read in it is described, and checked, as in a request.
        input_size = source.input_size if input_size is None else input_size
        fields = {**describe_folder(weights), "upload": source.upload, "head": "probe" if asked.fits else "keep"}
        source, weights = _described(fields), weights / "model.safetensors"
    assert isinstance(source, TimmTeacher | LocalTeacher | UploadedTeacher)  # whose folder is always at hand
    loaded = load_teacher(source, weights, asked.ordered, asked.classes, input_size)
    put_on(loaded.model, device, "teacher")
    return loaded if asked.dataset is None or asked.ordered is None else at_best_size(loaded, asked.dataset)


def _described(fields: Mapping[str, Any]) -> UploadedTeacher:
    try:
        return UploadedTeacher.model_validate(fields)
    except ValidationError as error:
        _, detail = first_error(error)
        raise TeacherError(f"config.json: {detail}", field="upload") from None


def _of_onnx(source: LocalTeacher | OnnxTeacher, weights: Path | None, asked: _Asked) -> ImageTeacher:
    """A black box, on the processor whatever the device."""
    path, field = (source.path, "teacher.path") if isinstance(source, LocalTeacher) else (weights, "upload")
    if path is None:
        raise TeacherError("the uploaded ONNX file is not at hand", field=field)
    if isinstance(source, LocalTeacher) and not path.is_file():
        raise TeacherError(f"{path} is not there", field=field)
    loaded = load_onnx(path, source, asked.task, asked.input_size, embeds=asked.fits, field=field)
    if asked.dataset is None or asked.ordered is None:
        if not (loaded.normalised or asked.dataset is None or asked.fits):
            detail = "nothing says how the network is shown pixels, and without labels nothing tells; say mean and std"
            raise TeacherError(detail, field="teacher.mean")
        return loaded.teacher
    teacher = in_order_of(asked.ordered, loaded.teacher, asked.classes)
    return teacher if loaded.normalised else at_best_normalisation(teacher, asked.dataset)
