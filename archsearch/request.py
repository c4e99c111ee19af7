"""`JobRequest`: the one typed request that a REST body, a YAML file and the shell's flags all become.

Nothing here touches torch, a disk or a database, so a client can build and check a request anywhere.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from archsearch.errors import InvalidRequest
from archsearch.plain import StrictNumbers, read_yaml
from archsearch.precision import Precision
from archsearch.recipes import RECIPES, RecipeName
from archsearch.teacher_config import (
    LARGEST_SIDE,
    MOST_CHANNELS,
    MOST_CLASSES,
    check_input_size,
    check_normalisation,
    check_plain,
    teacher_fields,
)

Kind = Literal["search", "distill", "search_and_distill"]
# An architecture is plain JSON: the space's parameter names with whole numbers.
Architecture = dict[str, int]
SizePrecision = Literal["fp32", "fp16", "int8"]
TradedCost = Literal["params", "macs", "size_bytes", "peak_activation_bytes", "latency_ms"]
Augment = Literal["none", "crop", "crop_flip", "resized_crop"]
Fit = Literal["crop", "pad", "stretch"]
OnBroken = Literal["refuse", "skip"]
OnDuplicates = Literal["refuse", "warn", "drop"]
Sampler = Literal["tpe", "nsga2", "gp", "cmaes", "random", "qmc", "evolution"]
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
CLASSES = (
    "Which of the teacher's outputs each class of the data is, where names do not tell: a mapping from the data's "
    "class names to the teacher's names or output numbers (classes left out are found by name; the teacher may know "
    "more), `natural` (1, 2, 10) or `sorted` (1, 10, 2) where its outputs have that order of the data's names, or "
    "`as_is` for the data's own order, whatever the names say."
)
Id = Annotated[str, Field(pattern=r"^[a-z]{2,4}_[0-9a-z]{8,32}$", description="An id this service handed out.")]


class Spec(StrictNumbers):
    """Frozen; a field nobody knows is refused with the nearest known name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=4096)

    @model_validator(mode="before")
    @classmethod
    def _suggest_known_fields(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value:
                if name not in cls.model_fields:
                    near = difflib.get_close_matches(str(name)[:100], cls.model_fields, n=1, cutoff=0.5)
                    hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(cls.model_fields)}"
                    raise ValueError(f"unknown field {name!r}; {hint}")
        return value


Pixels = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
InputSize = Annotated[
    Pixels | tuple[Pixels, Pixels] | None,
    BeforeValidator(check_input_size),
    Field(
        description="Pixels the weights expect: a side, or [height, width]; null is what the teacher's config says, or "
        "where that is but the architecture's default and the data much smaller, the better of both."
    ),
]


class TimmTeacher(Spec):
    """A network timm can create and load by itself: a model name, or `hf-hub:owner/name`."""

    kind: Literal["timm"] = "timm"
    name: str = Field(min_length=1, max_length=200, description="timm model name with tag, or hf-hub:owner/name.")
    classes: ClassMap | None = Field(None, description=CLASSES)
    input_size: InputSize = None


class LocalTeacher(Spec):
    """A timm `local-dir:` folder on this machine; library and shell only, no server takes a path from a client."""

    kind: Literal["local"] = "local"
    path: Path = Field(description="Folder with config.json and model.safetensors, as timm saves it.")
    classes: ClassMap | None = Field(None, description=CLASSES)
    input_size: InputSize = None


class UploadedTeacher(Spec):
    """Safetensors weights uploaded before, with the timm config that rebuilds their network."""

    kind: Literal["upload"] = "upload"
    upload: Id = Field(description="Completed upload holding the safetensors file.")
    config: dict[str, Any] | None = Field(
        None, description="The config.json timm saved beside the weights; gives every field below that is not given."
    )
    architecture: str = Field(min_length=1, max_length=200, description="timm model name, e.g. resnet18.")
    model_args: dict[str, Any] = Field({}, description="Keyword arguments for timm.create_model.")
    num_classes: int = Field(ge=2, le=MOST_CLASSES, description="Classes the head tells apart.")
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
    class_names: list[ClassName] | None = Field(
        None, max_length=100_000, description="What the outputs are called, first to last; held against the data's."
    )
    classes: ClassMap | None = Field(None, description=CLASSES)

    @model_validator(mode="before")
    @classmethod
    def _read_config(cls, value: Any) -> Any:
        if isinstance(value, dict):
            check_plain(value.get("model_args"), "model_args")
        if isinstance(value, dict) and value.get("config") is not None:
            given = {name: field for name, field in value.items() if name != "config"}
            return {**teacher_fields(value["config"]), **given}
        return value

    @model_validator(mode="after")
    def _check_normalisation(self) -> UploadedTeacher:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None:
                check_normalisation(name, values, self.in_chans, name)
        if self.class_names is not None and not len(self.class_names) == len(set(self.class_names)) == self.num_classes:
            raise ValueError(f"class_names: give {self.num_classes} names, one for each output and no two alike")
        return self


class RegisteredTeacher(Spec):
    """A teacher this service already checked."""

    kind: Literal["teacher"] = "teacher"
    id: Id = Field(description="Teacher id from POST /v1/teachers.")
    classes: ClassMap | None = Field(None, description=CLASSES)
    input_size: InputSize = None


class OfJob(Spec):
    """That of the job whose candidate is distilled; what such a request leaves out."""

    kind: Literal["job"] = "job"


TeacherSource = Annotated[TimmTeacher | UploadedTeacher, Field(discriminator="kind")]
TeacherSpec = Annotated[TimmTeacher | LocalTeacher | RegisteredTeacher, Field(discriminator="kind")]


class DigitsData(Spec):
    """The 1,797 handwritten 8×8 digits that come with scikit-learn."""

    kind: Literal["digits"] = "digits"


class DatasetData(Spec):
    """A data set uploaded to this service."""

    kind: Literal["dataset"] = "dataset"
    id: Id = Field(description="Data set id from POST /v1/datasets.")


Duplicates = Annotated[
    OnDuplicates,
    Field(
        description="What images do that are there twice, pixel for pixel: `refuse` the data where over a tenth of a "
        "split is also in train or over a twentieth of all have two labels, and warn of fewer; only `warn`; or `drop`: "
        "each is left once, in test before train, and nowhere where its labels differ."
    ),
]


class NpzData(Spec):
    """A local .npz with x_train, y_train and, if you have them, x_test, y_test, x_selection, y_selection."""

    kind: Literal["npz"] = "npz"
    path: Path
    duplicates: Duplicates = "refuse"


def check_image_size(value: Any) -> Any:
    """A side in pixels for both, or [height, width]; the same twice is one. Raises ValueError for anything else."""
    if value is None:
        return None
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(sides) != 2 or not all(type(side) is int and 4 <= side <= 512 for side in sides):
        raise ValueError("give one side in pixels or [height, width], each of 4 to 512")
    return sides[0] if sides[0] == sides[1] else tuple(sides)


Side = Annotated[int, Field(ge=4, le=512)]
ImageSize = Annotated[
    Side | tuple[Side, Side] | None,
    BeforeValidator(check_image_size),
    Field(description="Pixels all images become: a side, or [height, width]; null where they are of one size already."),
]
# Cropping keeps proportions and invents nothing, and is what `image_size` has always meant.
Fitting = Annotated[
    Fit,
    Field(
        description="How an image of another shape becomes image_size: `crop` takes the most of its centre, `pad` all "
        "of it with white beside it, `stretch` all of it out of proportion. New photos are treated so too."
    ),
]
Broken = Annotated[
    OnBroken, Field(description="What images that cannot be read do: `refuse` the data, or are left out (`skip`).")
]


class ImageFolderData(Spec):
    """A local folder (or zip) with one folder of images a class, or train/ and test/ holding such folders."""

    kind: Literal["image_folder"] = "image_folder"
    path: Path
    image_size: ImageSize = None
    fit: Fitting = "crop"
    on_broken: Broken = "refuse"
    duplicates: Duplicates = "refuse"


DataSpec = Annotated[DigitsData | DatasetData | NpzData | ImageFolderData, Field(discriminator="kind")]


class Budget(Spec):
    """Hard limits on the student. All that are set must hold; nothing beyond them is ever scored.

    With limits on latency or activations alone, the student is at most as large as its teacher.
    """

    params: int | None = Field(None, ge=1, description="Most parameters (count; weights, biases, norm affine).")
    macs: int | None = Field(None, ge=1, description="Most multiply-accumulates for one image.")
    params_ratio: float | None = Field(None, gt=0, le=1, description="Most parameters as a share of the teacher's.")
    macs_ratio: float | None = Field(
        None, gt=0, le=1, description="Most multiply-accumulates as a share of the teacher's."
    )

    size_bytes: int | None = Field(None, ge=1, description="Most bytes of stored weights and buffers.")
    size_precision: SizePrecision = Field("fp32", description="Precision whose bytes size_bytes limits.")
    peak_activation_bytes: int | None = Field(
        None, ge=1, description="Most bytes of activations alive at one time in an fp32 forward pass of one batch."
    )
    latency_ms: float | None = Field(None, gt=0, description="Most milliseconds for one batch on the device.")
    device: str = Field(
        "cpu-torch",
        min_length=1,
        max_length=100,
        description="Device whose latency is limited: see GET /v1/devices, or the id of an uploaded profile.",
    )
    batch: int = Field(
        1, ge=1, le=1024, description="Images in the batch whose latency and activations are limited (count)."
    )

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by name."""
        values = {name: getattr(self, name) for name in _LIMITS}
        return {name: limit for name, limit in values.items() if limit is not None}

    @property
    def unlimited(self) -> bool:
        return not self.limits

    def describe(self) -> str:
        """`params ≤ 1000 and macs ≤ 2000`, for messages."""
        units = {
            "size_bytes": f" in {self.size_precision}",
            "peak_activation_bytes": f" at batch {self.batch}",
            "latency_ms": f" on {self.device} at batch {self.batch}",
        }
        parts = (f"{name} ≤ {limit}{units.get(name, '')}" for name, limit in self.limits.items())
        return " and ".join(parts) or "no limit"


_LIMITS = ("params", "macs", "params_ratio", "macs_ratio", "size_bytes", "peak_activation_bytes", "latency_ms")


class SearchSpec(Spec):
    """How candidates are proposed and scored. None is ever trained."""

    space: str = Field(
        "auto",
        description="Space of student architectures (see GET /v1/spaces); `teacher` shrinks the teacher's own network; "
        "`auto` searches the teacher's family and every family that takes the images and fits the budget, together.",
    )
    candidates: int = Field(64, ge=1, le=100_000, description="Candidates to score (count).")
    sampler: Sampler = Field("tpe", description="What proposes candidates; all but `evolution` are Optuna's.")
    trade: TradedCost | None = Field(
        None, description="A cost to trade the score against: the search looks for the Pareto front of both."
    )
    choose: Literal["best", "knee"] = Field(
        "best",
        description="The winner: the best score within the budget, or the knee of the front of score against `trade` "
        "(where the next nat begins to cost more).",
    )
    batch_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="Training images in the one batch all candidates are scored on; null is 64, or as many as there "
        "are.",
    )
    score: dict[str, Annotated[float, Field(ge=-1e6, le=1e6)]] | None = Field(
        None,
        description="Voters and their weights, in nats; null is the default score. See GET /v1/proxies.",
        min_length=1,
    )
    seeds: int = Field(1, ge=1, le=64, description="Initialisations each candidate's score is averaged over (count).")
    halving: int | None = Field(
        None,
        ge=2,
        le=16,
        description="Look at most candidates only briefly: of each rung one in so many is looked at again on twice the "
        "images and initialisations, up to batch_size and seeds; null scores every candidate in full.",
    )
    precision: Precision = Field("auto", description="auto takes bf16 where the machine computes in it.")
    time_limit_s: float | None = Field(None, gt=0, description="Stop proposing after this many seconds.")
    patience: int | None = Field(
        None, ge=1, le=100_000, description="Stop after this many candidates in a row without a better score (count)."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of sampler, batch and initial weights.")


class LossTerm(StrictNumbers):
    """One loss of a weighted sum: its weight and its own settings, by name; what those are the loss itself knows."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    weight: float | None = Field(None, ge=0, le=1e6, description="Null takes the published weight.")

    @property
    def settings(self) -> dict[str, Any]:
        """What is given beside the weight."""
        return dict(self.model_extra or {})


class DistillSpec(Spec):
    """How the winner learns from the teacher. A field left out is the recipe's."""

    method: str = Field(
        "auto",
        description="Distillation method (see GET /v1/losses) with its published weights; `auto` chooses by task, "
        "classes and networks and says why; `none` trains on the labels alone.",
    )
    losses: dict[str, LossTerm] | None = Field(
        None,
        max_length=16,
        description="A weighted sum instead of one method: by loss, its weight and settings, "
        "e.g. {'dkd': {'beta': 2}, 'at': {'weight': 500}}.",
    )
    labels: float | None = Field(
        None, ge=0, le=1e6, description="Weight of the labels' own loss; null is the method's, and 1 in a sum."
    )
    temperature: float | None = Field(
        None, ge=0.1, le=100, description="Softens both logits, where the method does; null is the method's own."
    )
    alpha: float | None = Field(
        None, ge=0, le=1, description="kd's share of the teacher in the loss; the rest is the labels'. Null is 0.9."
    )
    class_weights: Literal["auto", "none", "balanced"] = Field(
        "auto",
        description="What an image counts for in the labels' loss: balanced is the inverse of its class's share; auto "
        "takes that where the largest class has over three times the images of the smallest.",
    )
    recipe: RecipeName = Field("short", description="Published training whose values the fields left out take.")
    epochs: int | None = Field(
        None,
        ge=1,
        le=5000,
        description="Passes over the training split; null is 60, or more where these are too few steps.",
    )
    batch_size: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="Images in a step, over all devices; null is 128, or fewer where there are few images.",
    )
    micro_batch: int | None = Field(
        None,
        ge=2,
        le=8192,
        description="Images a device computes at a time; gradients add up. What compares the images of a batch (batch "
        "norm; losses such as dist, sp, rkd) compares those of a part.",
    )
    optimizer: Literal["auto", "sgd", "adamw"] = Field(
        "auto", description="auto takes what the space's family learns best with."
    )
    lr: float | None = Field(
        None, gt=0, le=100, description="Peak learning rate; null is the optimizer's own, for the batch size."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Of SGD.")
    nesterov: bool = Field(True, description="Of SGD.")
    weight_decay: float = Field(5e-4, ge=0, le=10, description="Weight decay.")
    decay_all: bool = Field(False, description="Decay norms and biases too, which are spared otherwise.")
    schedule: Literal["one_cycle", "steps", "cosine"] = Field("one_cycle", description="Course of the learning rate.")
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (), max_length=20, description="Shares of the training after which `steps` multiplies the rate by `decay`."
    )
    decay: float = Field(0.1, gt=0, le=1, description="Factor of every milestone.")
    warmup: float = Field(0.0, ge=0, le=0.5, description="Share of the training in which `steps` and `cosine` rise.")
    clip_norm: float | None = Field(None, gt=0, le=1e6, description="Longest gradient; longer ones are scaled to it.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay per step of an average of the weights, which becomes the student."
    )
    augment: Augment = Field(
        "crop",
        description="Random crop after padding an eighth; crop_flip also mirrors, wrong for digits and text; "
        "resized_crop is ImageNet's: a random part at a random scale, mirrored.",
    )
    precision: Precision = Field(
        "auto", description="auto takes bf16 where the device computes in it; fp16 is for GPUs without."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one.")
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="torch.compile for student and teacher; auto where it pays: on a GPU."
    )
    view_cache: Literal["auto", "off"] = Field(
        "auto", description="Keep the teacher's answers to every augmented view on disk, for this and later trainings."
    )
    devices: int = Field(
        1, ge=1, le=64, description="Processes that train together, one a GPU (or on the CPU), started by torchrun."
    )
    seeds: int = Field(
        1, ge=1, le=16, description="Trainings from different seeds; the best on the selection split is handed back."
    )
    baseline: bool = Field(False, description="Train the same student without the teacher too, for comparison.")
    seed: int = Field(0, ge=0, lt=2**31, description="First seed of initial weights, order and augmentation.")

    @model_validator(mode="before")
    @classmethod
    def _take_recipe(cls, value: Any) -> Any:
        if isinstance(value, dict):
            name = value.get("recipe", "short")
            recipe: Mapping[str, Any] = RECIPES.get(name, {}) if isinstance(name, str) else {}  # type: ignore[call-overload]
            # A null where the recipe has a value is one that was left out.
            return {**value, **{field: given for field, given in recipe.items() if value.get(field) is None}}
        return value

    @model_validator(mode="after")
    def _check_sense(self) -> DistillSpec:
        if self.losses is not None:
            for name in ("temperature", "alpha"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: with losses, say it there: {{'kd': {{'weight': …, 'temperature': …}}}}")
            if not self.losses:
                raise ValueError("losses: name at least one, or leave it out")
            if self.method != "auto":
                raise ValueError(f"method: {self.method} or a sum of losses, not both; put it among the losses")
        if self.schedule == "steps" and (
            not self.milestones or list(self.milestones) != sorted(set(self.milestones)) or self.milestones[-1] >= 1
        ):
            raise ValueError("milestones: give shares of the training that rise and stay below 1, e.g. [0.5, 0.75]")
        if self.batch_size is None:
            return self
        if self.batch_size % self.devices:
            raise ValueError(f"devices: {self.devices} do not divide batch_size {self.batch_size}")
        if self.micro_batch is not None and (self.batch_size // self.devices) % self.micro_batch:
            raise ValueError(f"micro_batch: {self.micro_batch} does not divide a device's share of the batch")
        return self


class VerifySpec(Spec):
    """Real, brief distillation of the best candidates before the winner is chosen. This trains them, and costs so."""

    candidates: int = Field(8, ge=2, le=256, description="Candidates that are distilled, the best by score (count).")
    epochs: int = Field(
        4, ge=1, le=500, description="Epochs of the first round; each later one keeps half and doubles them."
    )
    rounds: int | None = Field(None, ge=1, le=8, description="Most rounds (count); null goes on until one is left.")
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Most multiply-accumulates as a share of what training the best by score takes; candidates that "
        "would cost more are left out, the last by score first, two at least remain. Null is no limit.",
    )


def _verify_kind(value: Any) -> str:
    return "auto" if isinstance(value, str) else "spec"


Verification = Annotated[
    Annotated[VerifySpec, Tag("spec")] | Annotated[Literal["auto"], Tag("auto")], Discriminator(_verify_kind)
]


class StudentSpec(Spec):
    """The student of a job that distils without searching: an architecture, or a candidate another job scored."""

    space: str | None = Field(None, description="Space the architecture belongs to.", max_length=100)
    architecture: Architecture | None = Field(None, description="The space's parameters, all of them.")
    job: Id | None = Field(None, description="Job whose candidate it is, instead of space and architecture.")
    candidate: int | None = Field(
        None, ge=0, lt=2**31, description="Number of the candidate in that job; see its /pareto."
    )

    @model_validator(mode="after")
    def _check_one_way(self) -> StudentSpec:
        named = self.space is not None and self.architecture is not None
        scored = self.job is not None and self.candidate is not None
        half = (self.space is None) != (self.architecture is None) or (self.job is None) != (self.candidate is None)
        if half or named == scored:
            raise ValueError("give space and architecture, or job and candidate")
        return self


class JobRequest(Spec):
    """Everything a job needs. `search_and_distill` finds the student and trains it; the other kinds do one half."""

    kind: Kind = "search_and_distill"
    name: str | None = Field(None, max_length=200, description="For people.")
    teacher: Annotated[TimmTeacher | LocalTeacher | RegisteredTeacher | OfJob, Field(discriminator="kind")]
    data: Annotated[DigitsData | DatasetData | NpzData | ImageFolderData | OfJob, Field(discriminator="kind")]
    budget: Budget = Budget()
    search: SearchSpec = SearchSpec()
    verify: Verification | None = Field(
        "auto",
        description="Distil the best candidates of the search briefly, and choose among them. `auto` does so where "
        "several families are left and the student is distilled: scores do not rank between families yet. Four "
        "candidates then take at most a tenth of the training. Null is never.",
    )
    distill: DistillSpec = DistillSpec()
    student: StudentSpec | None = Field(
        None,
        description="The student to distil; only for kind `distill`. With a job's candidate, teacher and data may be "
        "left out: they are that job's.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_from_job(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(student := value.get("student"), dict) and student.get("job"):
            return {"teacher": {"kind": "job"}, "data": {"kind": "job"}, **value}
        return value

    @model_validator(mode="after")
    def _check_kind(self) -> JobRequest:
        if (self.kind == "distill") != (self.student is not None):
            raise ValueError("kind 'distill' needs a student, and only it takes one")
        for name in ("teacher", "data"):
            if isinstance(getattr(self, name), OfJob) and (self.student is None or self.student.job is None):
                raise ValueError(f"{name}: kind 'job' is for a student that names a job and its candidate")
        if self.search.choose == "knee" and self.search.trade is None:
            raise ValueError("search.choose: a knee needs a cost to trade; set search.trade, for example 'macs'")
        if self.kind == "distill" and self.verification is not None:
            raise ValueError("verify: it compares what a search found; this job has none")
        if self.kind != "distill" and self.budget.unlimited:
            raise ValueError("budget: set at least one limit, for example {'params_ratio': 0.1}")
        return self

    @property
    def verification(self) -> VerifySpec | None:
        """How candidates are verified, if they are; `auto` has to be settled before it is one or the other."""
        return self.verify if isinstance(self.verify, VerifySpec) else None


def parse_request(source: Any) -> JobRequest:
    """A request from plain data; raises InvalidRequest naming the field and what is wrong with it."""
    try:
        return JobRequest.model_validate(source)
    except ValidationError as error:
        field, detail = first_error(error)
        raise InvalidRequest(detail, field=field or None) from None


def read_request(path: Path) -> JobRequest:
    """A request from a YAML or JSON file."""
    try:
        text = path.read_text(encoding="utf-8")
        return parse_request(json.loads(text) if path.suffix == ".json" else read_yaml(text))
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path.name} is not readable: {error}") from None


def first_error(error: ValidationError) -> tuple[str, str]:
    """The field (dotted) and the message of the first thing Pydantic found wrong."""
    field, detail = errors_by_field(error.errors())[0]
    return field, detail


def errors_by_field(errors: Any) -> list[tuple[str, str]]:
    """Pydantic's errors as (dotted field, message) pairs."""
    found = []
    for item in errors:
        # Pydantic names the union's member, which is no field of the request.
        parts = [str(part) for part in item["loc"] if part not in ("body", "function-after", "function-before")]
        parts = [part for i, part in enumerate(parts) if not (i and part in _KINDS.get(parts[i - 1], ()))]
        found.append((".".join(parts), item["msg"].removeprefix("Value error, ")))
    return found


_SOURCES = frozenset({"job", "timm", "local", "upload", "teacher", "digits", "dataset", "npz", "image_folder"})
_KINDS = {"teacher": _SOURCES, "data": _SOURCES, "source": _SOURCES, "verify": frozenset({"spec", "auto"})}
