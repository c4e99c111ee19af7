"""What image classification is to the rooms that know no pixels."""

# N images, B batch, C channels, H W space, D features

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from archsearch.data import Limits
from archsearch.data.measured import Measured, Part
from archsearch.data.metrics import Metric, of_labels
from archsearch.data.prediction import Form, Listener, Prediction
from archsearch.data.shape import Shape
from archsearch.data.task import awaits_teacher
from archsearch.domains.domain import Beginning, CardFacts, Domain, Floats, Pace
from archsearch.domains.images import load_digits, load_image_folder, load_npz, stored
from archsearch.domains.images.measured import load_measured
from archsearch.domains.images.sizes import ImageShape, ImageSizes, sized
from archsearch.domains.images.task import ImageDataset, Images, ImageTask
from archsearch.domains.images.views import SampledViews, Views, views_of
from archsearch.errors import InvalidRequest, TeacherError
from archsearch.request import DigitsData, DistillSpec, Few, ImageFolderData, NpzData
from archsearch.settings import user_cache
from archsearch.teacher_config import teacher_fields
from archsearch.zoos.image_networks import is_image_network
from archsearch.zoos.transformers.image_folder import describe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archsearch.distill.group import Group
    from archsearch.distill.loader import Loader
    from archsearch.export.format import Format
    from archsearch.teachers import ImageTeacher, Teacher


class ImageClassification:
    """See `Domain`."""

    name = "image_classification"
    examples = "images"
    library = "timm"
    loads_in = "images"
    an_example = "photo.jpg"
    coarse_of = "the pixels"
    sizes: type[Any] = ImageSizes
    measured_on: type[Any] = ImageShape
    grid = True
    attention = False  # timm keeps the three projections in one
    pace = Pace()
    teacher_files: tuple[str, ...] = ("config.json", "model.safetensors", "preprocessor_config.json")

    def load(
        self,
        spec: DigitsData | NpzData | ImageFolderData,
        limits: Limits | None,
        listener: Callable[[int, int], None] | None,
        cache: Path | None = None,
    ) -> ImageDataset:
        match spec:
            case DigitsData():
                return load_digits()
            case NpzData():
                return load_npz(spec.path, limits, duplicates=spec.duplicates)
            case ImageFolderData():
                return load_image_folder(
                    spec.path,
                    spec.image_size,
                    limits,
                    fit=spec.fit,
                    on_broken=spec.on_broken,
                    duplicates=spec.duplicates,
                    listener=listener,
                    cache=cache,
                )

    def encode(
        self,
        dataset: ImageDataset,
        teacher: Any,
        cache: Path | None,
        listener: Callable[[int, int], None] | None = None,
    ) -> ImageDataset:
        """Images are the same for every network; a teacher of another resolution resizes them. Where none has a label,
        the teacher's classes are the task, and what it answers stands in their place."""
        if not awaits_teacher(dataset.task):
            return dataset
        from archsearch.teachers.stand_in import stand_in

        return stand_in(dataset, teacher, listener)

    def save_dataset(self, dataset: ImageDataset, folder: Path, *, own: bool = False) -> None:
        stored.save_dataset(dataset, folder, own=own)

    def open_dataset(self, folder: Path) -> ImageDataset:
        return stored.open_dataset(folder)

    def read_task(self, body: Mapping[str, Any]) -> ImageTask:
        return TypeAdapter(ImageTask).validate_python(body)

    def check(self, spec: DistillSpec, task: ImageTask) -> None:
        if spec.augment in ("resized_crop", "strong") and task.in_chans not in (1, 3):
            raise InvalidRequest(
                f"{spec.augment} takes images of 1 or 3 channels, these have {task.in_chans}; take crop or none",
                field="distill.augment",
            )
        found = self.views(task, spec)
        if isinstance(found, SampledViews) and found.mixes and "tf_kd" in (spec.method, *(spec.losses or ())):
            raise InvalidRequest(
                "tf_kd knows one label an image, and views of two have both; set mixup and cutmix to 0, or take "
                "label_smoothing",
                field="distill.augment",
            )

    def shape(self, task: ImageTask) -> Shape:
        return Shape((task.in_chans, task.height, task.width))

    def told(self, task: ImageTask) -> str:
        return f"images of {task.height}×{task.width} pixels"

    def prepare(self, x: Tensor, task: ImageTask) -> Tensor:
        """Images in 0-1, B×C×H×W, normalised."""
        from archsearch.domains.images.normalise import normalise

        return normalise(x, task.mean, task.std)

    def coarse(self, split: Images, features: int) -> Floats:
        """Means over areas, as many as features allow."""
        import torch

        height, width, channels = split.sizes
        side = max(1, math.isqrt(features // channels))
        size, parts = (min(side, height), min(side, width)), []
        for start in range(0, len(split), 256):
            x_BCHW = split.take(slice(start, start + 256)).images().float()
            parts.append(torch.nn.functional.adaptive_avg_pool2d(x_BCHW, size).flatten(1).double().numpy())
        return np.concatenate(parts)

    def metrics(self, task: ImageTask) -> Sequence[Metric]:
        return of_labels(task)

    def size(self, task: ImageTask) -> dict[str, int]:
        return {"in_chans": task.in_chans, "height": task.height, "width": task.width}

    def flags(self, task: ImageTask) -> dict[str, int]:
        return {"image_size": task.height, "in_chans": task.in_chans}

    def load_teacher(
        self,
        source: Any,
        weights: Path | None,
        dataset: ImageDataset | None,
        *,
        classes: Any = None,
        input_size: Any = None,
        head: Any = None,
        device: str = "cpu",
    ) -> Teacher:
        from archsearch.domains.image_classification.teacher import load

        return load(source, weights, dataset, classes=classes, input_size=input_size, head=head, device=device)

    def at_hand(self, name: str) -> bool:
        from archsearch.teachers import at_hand

        return at_hand(name)

    def fetch(self, name: str) -> None:
        from archsearch.teachers.hub import check_stock, require_plain_config, require_repository
        from archsearch.zoos.transformers.image_load import fetch_image_network

        if ":" in name and is_image_network(require_plain_config(name)[1]):
            fetch_image_network(name)
        elif ":" in name:
            require_repository(name)
        else:
            check_stock(name, None)

    def save_teacher(self, teacher: ImageTeacher, task: ImageTask, folder: Path) -> None:
        if getattr(teacher.model, "pretrained_cfg", None) is None:  # no network of timm's
            raise InvalidRequest(
                f"{teacher.name} is asked by one process, and several cannot share it; leave devices out",
                field="distill.devices",
            )
        height, width = teacher.input_hw or (task.height, task.width)
        self.save(teacher.model, replace(task, mean=teacher.mean, std=teacher.std, height=height, width=width), folder)

    def begin_teacher(self, asked: Any, dataset: ImageDataset, scratch: Path) -> Beginning:
        from archsearch.domains.image_classification.beginning import begin_teacher

        return begin_teacher(asked, dataset, scratch)

    def facts(self, teacher: ImageTeacher) -> dict[str, Any]:
        return {"in_chans": teacher.in_chans}

    def describe(self, config: Mapping[str, Any], names: Collection[str], field: str) -> dict[str, Any]:
        if is_image_network(config):
            return describe(config, names, field=field)
        try:
            found = teacher_fields(config)
        except ValueError as error:
            raise TeacherError(f"config.json: {error}", field=field) from None
        if "model.safetensors" not in names:
            raise TeacherError("there is no model.safetensors beside config.json", field=field)
        told = {name: found[name] for name in ("architecture", "num_classes", "in_chans")}
        return told | ({"class_names": found["class_names"]} if found.get("class_names") else {})

    def check_facts(self, facts: Mapping[str, Any], task: ImageTask, field: str) -> None:
        in_chans = facts.get("in_chans")
        if in_chans is not None and in_chans != task.in_chans:
            raise TeacherError(f"the teacher knows {in_chans} channels, the data has {task.in_chans}", field=field)

    def inherits(self, task: ImageTask, teacher: ImageTeacher) -> ImageTask:
        return replace(task, mean=teacher.mean, std=teacher.std)

    def take_over(self, teacher: ImageTeacher, model: nn.Module) -> None:
        from archsearch.zoos.timm import take_over

        take_over(teacher.model, model)

    def read_by(self, task: ImageTask, facts: Mapping[str, Any]) -> ImageTask:
        in_chans = facts.get("in_chans") or task.in_chans
        if in_chans == task.in_chans:
            return task
        other = sized(task.classes, in_chans, task.height, task.width)
        return replace(task, in_chans=in_chans, mean=other.mean, std=other.std)

    def views(self, task: ImageTask, spec: DistillSpec) -> Views | SampledViews | None:
        return views_of(spec, task)

    def loader(self, dataset: ImageDataset, spec: DistillSpec, device: str, group: Group) -> Loader:
        """The source of batches for an augmentation and a device."""
        from archsearch.domains.image_classification.loaders import Resident, Streamed

        found = self.views(dataset.task, spec)
        if isinstance(found, Views):
            return Resident(dataset, spec, device, group, found)
        return Streamed(dataset, spec, device, group, found)

    def save(self, student: nn.Module, task: ImageTask, folder: Path, teacher: Any = None) -> None:
        from archsearch.export.folder import save_student

        save_student(student, task, folder)

    def open(self, folder: Path) -> nn.Module:
        from archsearch.export.folder import load_student

        return load_student(folder)

    def check_saved(self, student: nn.Module, task: ImageTask, folder: Path) -> None:
        self.save(student, task, folder)
        self.open(folder)

    def knows(self, config: Mapping[str, Any]) -> bool:
        return "pretrained_cfg" in config or "architecture" in config or is_image_network(config)

    def stock(self, config: Mapping[str, Any]) -> bool:
        import timm

        import archsearch.models  # noqa: F401  (registers with timm)

        return not timm.model_entrypoint(config["architecture"]).__module__.startswith("archsearch.")

    def card(self, config: Mapping[str, Any], report: Mapping[str, Any], stock: bool) -> CardFacts:
        from archsearch.export.card_use import use_section
        from archsearch.export.folder import MULTILABEL

        channels, height, width = config["pretrained_cfg"]["input_size"]
        return CardFacts(
            architecture=config["architecture"],
            classes=config["num_classes"],
            sized=f"images of {height}×{width} pixels and {channels} channel{'s' if channels != 1 else ''}",
            pipeline="image-classification",
            library=self.library,
            use=use_section(config, report, stock),
            multilabel=config.get("problem_type") == MULTILABEL,
        )

    def open_task(self, folder: Path) -> ImageTask:
        from archsearch.export.folder import load_task

        return load_task(folder)

    def as_read(self, data: Mapping[str, Any], task: ImageTask, learned: Mapping[str, Any]) -> dict[str, Any]:
        """Image files become as large as the network's own were, and as few have labels as it learned from."""
        sized = {"image_size": [task.height, task.width], "fit": task.fit} if data["kind"] == "image_folder" else {}
        few = {name: learned[name] for name in Few.model_fields if learned.get("shots") is not None and name in learned}
        return {**few, **data, **sized}

    def load_measured(
        self,
        spec: Any,
        task: ImageTask,
        part: Part,
        folder: Path | None,
        learned_from: str | None,
        listener: Callable[[int, int], None] | None,
    ) -> Measured:
        cache = user_cache() / "evidence"
        measured = load_measured(spec, task, part, learned_from=learned_from, listener=listener, cache=cache)
        found = measured.dataset.task
        _require_classes("the student", task.classes, task.in_chans, found, "--data")
        _require_size("the student", task, found, "--data")
        return measured

    def check_beside(self, name: str, other: Any, folder: Path, task: ImageTask, field: str) -> None:
        if not isinstance(other, Path):
            _require_classes(name, other.num_classes, other.in_chans, task, field)
            return
        own = self.open_task(other)
        _require_classes(name, own.classes, own.in_chans, task, field)
        _require_size(name, own, task, field)

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
        from archsearch.domains.image_classification.photos import predict

        how: dict[str, Any] = {"form": form, "columns": columns, "listener": listener, "device": device}
        return predict(folder, given, top=top, threshold=threshold, **how)

    def formats(self) -> Sequence[Format]:
        from archsearch.export.format import formats

        return tuple(formats)

    def held_out(self, split: Images | None, task: ImageTask) -> npt.NDArray[np.uint8]:
        """N×H×W×C."""
        image_bytes = self.shape(task).bytes  # as the floats they become
        most = min(_MOST_IMAGES, max(_FEWEST_IMAGES, _MOST_BYTES // image_bytes))
        if split is None:
            shape = (_FEWEST_IMAGES, task.height, task.width, task.in_chans)
            return np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8)
        rows = np.linspace(0, len(split) - 1, min(most, len(split))).round().astype(int)
        return split.pixels(rows)

    def raw(self, x: Tensor) -> npt.NDArray[np.uint8]:
        """From B×C×H×W in 0-1 to B×H×W×C of 0-255."""
        import torch

        pixels: npt.NDArray[np.uint8] = (255 * x).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return pixels

    def called(self, example: npt.NDArray[Any]) -> str:
        return "image"

    def reference(self, student: nn.Module, task: ImageTask) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
        from archsearch.export.format import reference

        return reference(student, task)

    def write_reading(self, folder: Path, task: ImageTask) -> None:
        from archsearch.export.folder import write_reading

        write_reading(folder, task)

    def measure_from_file(
        self, file: str, answer: Any, settings: Any, expected_NK: Any, subject: Any, tolerance: float | None
    ) -> Any:
        from archsearch.export.from_file import measure_from_file

        return measure_from_file(file, answer, settings, expected_NK, subject, tolerance)


def _require_classes(name: str, classes: int, in_chans: int, task: ImageTask, field: str) -> None:
    """Raise InvalidRequest unless a network's classes and channels are the data's."""
    if classes != task.classes:
        raise InvalidRequest(f"{name} tells {classes} classes apart, the data has {task.classes}", field=field)
    if in_chans != task.in_chans:
        raise InvalidRequest(f"{name} takes {in_chans} channels, the data has {task.in_chans}", field=field)


def _require_size(name: str, own: ImageTask, task: ImageTask, field: str) -> None:
    """Raise InvalidRequest unless a network takes images as large as the data's."""
    if (task.height, task.width) != (own.height, own.width):
        raise InvalidRequest(
            f"its images are {task.height}×{task.width} pixels, {name} takes {own.height}×{own.width}"
            if field == "--data"
            else f"{name} takes images of {own.height}×{own.width} pixels, the data's are {task.height}×{task.width}",
            field=field,
        )


# Held-out images looked at: at most so many, and so many bytes of floats.
_MOST_IMAGES, _MOST_BYTES, _FEWEST_IMAGES = 1280, 2**28, 64

DOMAIN: Domain = ImageClassification()
