"""Where a teacher comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from archsearch.plain import Spec
from archsearch.request.base import Id
from archsearch.teacher_config import (
    LARGEST_SIDE,
    MOST_CHANNELS,
    MOST_CLASSES,
    check_input_size,
    check_normalisation,
    check_plain,
    teacher_fields,
)

# Which of a teacher's outputs each class of the data is: by name or number, or an order of all of them.
ClassName = Annotated[str, Field(min_length=1, max_length=1000)]
_ORDERS = ("natural", "sorted", "as_is")
_MOST_OUTPUTS = 10**6


def _class_map(value: Any) -> Any:
    """A mapping whose whole-number keys, as YAML reads `1: 0`, are the names they were meant as; or an order."""
    if not isinstance(value, dict):
        if value not in _ORDERS:
            raise ValueError(f"give a mapping from names to names or output numbers, or one of {', '.join(_ORDERS)}")
        return value
    named = {str(name) if type(name) is int else name: output for name, output in value.items()}
    if len(named) < len(value):
        raise ValueError("names a class twice")
    for name, output in named.items():
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is no name of a class; put the names in quotes: {{'{name}': 0}}")
        is_number = type(output) is int and 0 <= output < _MOST_OUTPUTS
        if not is_number and not (isinstance(output, str) and output):
            raise ValueError(f"{name[:100]!r}: give the name of one of the teacher's classes, or an output's number")
    return named


ClassMap = Annotated[
    Annotated[
        dict[ClassName, Annotated[int, Field(strict=True, ge=0, lt=_MOST_OUTPUTS)] | ClassName],
        Field(max_length=10_000),
    ]
    | Literal["natural", "sorted", "as_is"],
    BeforeValidator(_class_map),
]
# What becomes of its answers.
Head = Literal["keep", "probe", "none"]
HEAD = (
    "`keep` takes its answers as they are; `probe` gives it a linear head for the data's classes instead, fitted in "
    "closed form to what it makes of the training images (ridge, weighed by leave-one-out): a bare backbone, or a "
    "network of other classes, becomes a teacher, and is measured like any other; `none` learns from its features "
    "alone (distill.method auto is then cosine, beside the labels), and the fitted head only measures it and scores "
    "students."
)
CLASSES = (
    "Which of the teacher's outputs each class of the data is, where names do not tell: a mapping from the data's "
    "class names to the teacher's names or output numbers (classes left out are found by name; the teacher may know "
    "more), `natural` (1, 2, 10) or `sorted` (1, 10, 2) where its outputs have that order of the data's names, or "
    "`as_is` for the data's own order, whatever the names say."
)
Pixels = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
InputSize = Annotated[
    Pixels | tuple[Pixels, Pixels] | None,
    BeforeValidator(check_input_size),
    Field(
        description="Pixels the weights expect: a side, or [height, width]; null is what the teacher's config says, or "
        "where that is but the architecture's default and the data much smaller, the better of both."
    ),
]

Values = Annotated[list[float] | None, Field(max_length=MOST_CHANNELS)]
ClassNames = Annotated[
    list[ClassName] | None,
    Field(max_length=100_000, description="What the outputs are called, first to last; held against the data's."),
]
# How an ONNX graph is shown images, and what its answers are, where its own metadata do not say.
Layout = Annotated[
    Literal["nchw", "nhwc"] | None,
    Field(description="Where the channels stand in what an ONNX graph takes; null reads it off the graph."),
]
Scale = Annotated[
    Literal["0-1", "0-255"] | None,
    Field(
        description="Pixels an ONNX graph takes, and the unit of `mean` and `std`; null is 0-255 where it takes whole "
        "numbers, 0-1 else."
    ),
]
Mean = Annotated[Values, Field(description="Channel means to take off before an ONNX graph is asked, in `scale`.")]
Std = Annotated[Values, Field(description="Channel deviations to divide by before an ONNX graph is asked, in `scale`.")]
Meaning = Annotated[
    Literal["logits", "probabilities"] | None,
    Field(description="What an ONNX graph answers; null tells by its last node, or by what it answers."),
]

_OF_ONNX = ("layout", "scale", "mean", "std", "outputs", "class_names")


def check_head(num_classes: int, head: str) -> None:
    """Raise ValueError for a network that tells nothing apart, and is to be asked as it is."""
    if num_classes < 2 and head == "keep":
        raise ValueError(
            f"num_classes {num_classes} is a backbone without a head; it becomes a teacher with head 'probe'"
        )


def is_onnx(path: Path) -> bool:
    """Whether a path names an ONNX file."""
    return path.suffix.lower() == ".onnx"


def _check_shown(scale: str | None, mean: list[float] | None, std: list[float] | None, names: list[str] | None) -> None:
    """Raise ValueError naming what is no normalisation of pixels in that scale, or a name given twice."""
    unit = 255 if scale == "0-255" else 1
    for name, values in (("mean", mean), ("std", std)):
        if values is not None:
            check_normalisation(name, [value / unit for value in values], len(values), name)
    if mean is not None and std is not None and len(mean) != len(std):
        raise ValueError(f"std: {len(std)} values, mean has {len(mean)}; give one a channel")
    if names is not None and len(set(names)) < len(names):
        raise ValueError("class_names: no two may be alike")


class TimmTeacher(Spec):
    """A network timm can create and load by itself: a model name, or `hf-hub:owner/name`."""

    kind: Literal["timm"] = "timm"
    name: str = Field(min_length=1, max_length=200, description="timm model name with tag, or hf-hub:owner/name.")
    classes: ClassMap | None = Field(None, description=CLASSES)
    input_size: InputSize = None
    head: Head = Field("keep", description=HEAD)


class LocalTeacher(Spec):
    """A timm `local-dir:` folder or an .onnx file on this machine; library and shell only, no server takes a path from
    a client."""

    kind: Literal["local"] = "local"
    path: Path = Field(description="Folder with config.json and model.safetensors, as timm saves it; or an .onnx file.")
    classes: ClassMap | None = Field(None, description=CLASSES)
    input_size: InputSize = None
    head: Head = Field("keep", description=HEAD)
    layout: Layout = None
    scale: Scale = None
    mean: Mean = None
    std: Std = None
    outputs: Meaning = None
    class_names: ClassNames = None

    @model_validator(mode="after")
    def _check_shown(self) -> LocalTeacher:
        said = next((name for name in _OF_ONNX if getattr(self, name) is not None), None)
        if said is not None and not is_onnx(self.path):
            raise ValueError(f"{said}: is for .onnx files; a folder's config.json says it itself")
        _check_shown(self.scale, self.mean, self.std, self.class_names)
        return self


class UploadedTeacher(Spec):
    """Safetensors weights uploaded before, with the timm config that rebuilds their network."""

    kind: Literal["upload"] = "upload"
    upload: Id = Field(description="Completed upload holding the safetensors file.")
    config: dict[str, Any] | None = Field(
        None, description="The config.json timm saved beside the weights; gives every field below that is not given."
    )
    architecture: str = Field(min_length=1, max_length=200, description="timm model name, e.g. resnet18.")
    model_args: dict[str, Any] = Field({}, description="Keyword arguments for timm.create_model.")
    num_classes: int = Field(
        ge=0,
        le=MOST_CLASSES,
        description="Classes the head tells apart; 0 of a backbone without one, which `head` gives.",
    )
    in_chans: int = Field(3, ge=1, le=MOST_CHANNELS, description="Input channels.")
    mean: list[float] | None = Field(
        None, max_length=MOST_CHANNELS, description="Channel means the weights were trained with, of pixels in 0-1."
    )
    std: list[float] | None = Field(
        None,
        max_length=MOST_CHANNELS,
        description="Channel deviations the weights were trained with, of pixels in 0-1.",
    )
    input_size: InputSize = None
    class_names: ClassNames = None
    classes: ClassMap | None = Field(None, description=CLASSES)
    head: Head = Field("keep", description=HEAD, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _read_config(cls, value: Any) -> Any:
        if isinstance(value, dict):
            check_plain(value.get("model_args"), "model_args")
        if isinstance(value, dict) and value.get("config") is not None:
            given = {name: field for name, field in value.items() if name != "config"}
            return {**teacher_fields(value["config"]), **given}
        return value

    @field_validator("head")
    @classmethod
    def _check_head(cls, value: Head, info: ValidationInfo) -> Head:
        check_head(info.data.get("num_classes", MOST_CLASSES), value)
        return value

    @model_validator(mode="after")
    def _check_normalisation(self) -> UploadedTeacher:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None:
                check_normalisation(name, values, self.in_chans, name)
        if self.class_names is not None and not len(self.class_names) == len(set(self.class_names)) == self.num_classes:
            raise ValueError(f"class_names: give {self.num_classes} names, one for each output and no two alike")
        return self


class UploadedFolder(Spec):
    """A zip, uploaded before, of the folder a network's own library saved: config.json, model.safetensors and, of a
    network that reads texts, its tokenizer's files. Others in it are never read."""

    kind: Literal["folder"] = "folder"
    upload: Id = Field(description="Completed upload holding the zip.")
    classes: ClassMap | None = Field(None, description=CLASSES)
    input_size: InputSize = None
    head: Head = Field("keep", description=HEAD)


class OnnxTeacher(Spec):
    """An ONNX file uploaded before: any network, asked as a black box by ONNX Runtime."""

    kind: Literal["onnx"] = "onnx"
    upload: Id = Field(description="Completed upload holding the .onnx file.")
    classes: ClassMap | None = Field(None, description=CLASSES)
    input_size: InputSize = None
    head: Head = Field("keep", description=HEAD)
    layout: Layout = None
    scale: Scale = None
    mean: Mean = None
    std: Std = None
    outputs: Meaning = None
    class_names: ClassNames = None

    @model_validator(mode="after")
    def _check_shown(self) -> OnnxTeacher:
        _check_shown(self.scale, self.mean, self.std, self.class_names)
        return self


class RegisteredTeacher(Spec):
    """A teacher this service already checked."""

    kind: Literal["teacher"] = "teacher"
    id: Id = Field(description="Teacher id from POST /v1/teachers.")
    classes: ClassMap | None = Field(None, description=CLASSES)
    input_size: InputSize = None
    head: Head | None = Field(None, description=f"{HEAD} Null is what it was registered with.")


TeacherSource = Annotated[TimmTeacher | UploadedTeacher | UploadedFolder | OnnxTeacher, Field(discriminator="kind")]
TeacherSpec = Annotated[TimmTeacher | LocalTeacher | RegisteredTeacher, Field(discriminator="kind")]
