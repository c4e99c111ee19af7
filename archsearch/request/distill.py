"""How a student is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from archsearch.plain import Spec, StrictNumbers
from archsearch.precision import Precision
from archsearch.recipes import RECIPES, RecipeName
from archsearch.request.base import Device, Init

Augment = Literal["none", "crop", "crop_flip", "resized_crop", "strong"]


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
    init: Init = Field(
        "auto",
        description="What students begin with. `teacher` cuts them out of the teacher, whose channels and blocks that "
        "matter most they keep: all of them are of its kind. `pretrained` takes networks that come with weights (see "
        "search.pretrained). `scratch` is noise. `auto` lets all of these compete, as far as there are any: students "
        "cut out of the teacher where one can be cut, and networks with weights where some are at hand.",
    )
    repair: bool = Field(
        True,
        description="Fit the layers of a student that was cut out of its teacher to what the teacher's put out, before "
        "it is trained; a pass over some hundred images, without labels.",
    )
    temperature: float | None = Field(
        None, ge=0.1, le=100, description="Softens both logits, where the method does; null is the method's own."
    )
    alpha: float | None = Field(
        None, ge=0, le=1, description="kd's share of the teacher in the loss; the rest is the labels'. Null is 0.9."
    )
    labelled_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of examples with labels in each batch, where there are others without: the labels' own loss "
        "is of those alone, the teacher's of all. Null is a quarter, or the share they have of all where that is more.",
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
        description="Passes over the training examples. Those without labels count as the others do: an epoch has "
        "as many steps as if all had labels; `labelled_share` says how often labels come up. Null is 60 of "
        "images and 10 of texts, or more where these are too few steps.",
    )
    batch_size: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="Examples in a step, over all devices; null is 128 images or 64 texts, or fewer of few.",
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
        "resized_crop is ImageNet's: a random part at a random scale, mirrored; strong adds RandAugment, random "
        "erasing, and mixup or CutMix in half of the views.",
    )
    views: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Views of an image that resized_crop or strong draws once, whatever the seed, so that the "
        "teacher's answers to them are kept; null is 50 of strong, and of resized_crop another in every epoch.",
    )
    mixup: float | None = Field(
        None, ge=0, le=100, description="α of mixup in sampled views, 0 for none; null is 0.1 of strong, else 0."
    )
    cutmix: float | None = Field(
        None, ge=0, le=100, description="α of CutMix in sampled views, 0 for none; null is 1 of strong, else 0."
    )
    precision: Precision = Field(
        "auto",
        description="auto times a step in each where the training is long enough, and takes bf16 where that is clearly "
        "faster; fp16 is for GPUs.",
    )
    device: Device | None = Field(
        None,
        description="Deprecated: where the training alone is computed. Null, and auto, is the request's own `device`.",
    )
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

    @field_validator("device")
    @classmethod
    def _leave_open(cls, value: str | None) -> str | None:
        return None if value == "auto" else value

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
        if not self.repair and self.init in ("scratch", "pretrained"):
            raise ValueError(
                f"repair: is of students cut out of their teacher, and init {self.init} cuts none; leave it out"
            )
        sampled = self.augment == "strong" or (self.augment == "resized_crop" and self.views is not None)
        if self.views is not None and not sampled:
            raise ValueError(f"views: those of {self.augment} are few, and all numbered; take resized_crop or strong")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) is not None and not sampled:
                raise ValueError(f"{name}: is of sampled views; take strong, or resized_crop with views")
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
