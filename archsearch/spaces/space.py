"""What a space is: whole-number parameters, and how their values become an ordinary network of some library.

Nothing here imports torch, so the API lists and checks spaces without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from archsearch import zoos
from archsearch.data.task import Dataset, Task
from archsearch.errors import InvalidRequest
from archsearch.registry import Registry
from archsearch.request import Architecture, Start
from archsearch.spaces.count import Cost, Count

if TYPE_CHECKING:
    from torch import nn

Optimizer = Literal["sgd", "adamw"]


@dataclass(frozen=True)
class Parameter:
    """One searchable whole number, `low` to `high` in steps of `step`.

    Attributes:
        ordered: Whether more is never cheaper, in parameters or MACs. Where it is not, the number tells kinds apart
            (of blocks) or trades one cost for the other (sizes of patches).
    """

    name: str
    low: int
    high: int
    step: int = 1
    doc: str = ""
    ordered: bool = True

    @property
    def values(self) -> range:
        return range(self.low, self.high + 1, self.step)


@dataclass(frozen=True)
class Recipe:
    """What a library builds a network from; a student of any space is this and nothing else.

    Attributes:
        name, args: Its own name for the kind and the arguments it takes, plain JSON: `timm.create_model(name, **args)`,
            or a `model_type` of transformers with fields of its configuration.
        stock: Whether the library alone builds it, without this package.
        zoo: Which library, as `archsearch.zoos` names it.
    """

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    stock: bool = True
    zoo: str = "timm"


def takes_all(task: Task) -> str | None:
    """The refusal of a family that refuses nothing."""
    return None


# ImageNet-1k's size, from which on patch-based networks keep up with convolutional ones (Touvron et al. 2021, DeiT;
# Dosovitskiy et al. 2021, fig. 4, saw them behind even there). docs/decisions/0007 has a measurement on 8,500 images.
MANY_IMAGES = 1_000_000


@dataclass(frozen=True)
class Space:
    """A family of student architectures.

    Attributes:
        parameters: What is searched, for a task; bounds may follow its resolution.
        model: The network an architecture stands for.
        count: What an architecture is made of, in closed form; tests hold it equal to what torch counts on the meta
            device. It lets a search refuse thousands of proposals a second without building any.
        optimizer: What the family is trained with unless the user says otherwise; see `learns_by`.
        refuses: Why the family has no sensible network for a task; None where it has.
        learns_from: Training images (count) below which it falls behind when trained from scratch, and `auto` leaves it
            out.
        benchmark: Whether it is there to compare with published tables rather than to deploy.
        domain: Whose tasks it has networks for; it takes no other.
        canonical: The one architecture that stands for all of the same network; None where every one is another.
        start: What its students begin with: noise, or weights that `weights` gives them.
        weights: Gives an architecture's network, just built, its weights; None leaves it the noise it was built of.
        reads: The task as an architecture's students read it, where that is otherwise than the data says: normalised
            as the weights were trained. See `read`.
        optimizers: What an architecture is trained with, where that is not the same for all.
        called: What people call an architecture, where its parameters do not say.
    """

    name: str
    doc: str
    parameters: Callable[[Any], tuple[Parameter, ...]]
    model: Callable[[Architecture, Any], Recipe]
    count: Callable[[Architecture, Any], Count]
    optimizer: Optimizer
    refuses: Callable[[Any], str | None] = takes_all
    learns_from: int = 0
    benchmark: bool = False
    domain: str = "image_classification"
    canonical: Callable[[Architecture], Architecture] | None = None
    start: Start = "scratch"
    weights: Callable[[nn.Module, Architecture], object] | None = None
    reads: Callable[[Architecture, Any], Any] | None = None
    called: Callable[[Architecture], str] | None = None
    optimizers: Callable[[Architecture], Optimizer] | None = None

    def stock(self, task: Task) -> bool:
        """Whether a library alone builds the family's students for a task, without this package."""
        return self.model(self.smallest(task), task).stock

    def refusal(self, task: Task) -> str | None:
        """What the family does not take: a task of another domain, or one it has no sensible network for."""
        return task.domain.replace("_", " ") if task.domain != self.domain else self.refuses(task)

    def require(self, task: Task, *, field: str = "search.space") -> None:
        """Raise InvalidRequest, naming the families that do take it, when this one refuses the task."""
        reason = self.refusal(task)
        if reason is not None:
            others = ", ".join(space.name for space in spaces if not space.benchmark and space.refusal(task) is None)
            raise InvalidRequest(f"{self.name} does not take {reason}; these spaces do: {others}", field=field)

    def cost(self, architecture: Architecture, task: Task) -> Cost:
        """Parameters and multiply-accumulates of an architecture."""
        count = self.count(architecture, task)
        return Cost(count.params, count.macs)

    def cardinality(self, task: Task) -> int:
        return math.prod(len(parameter.values) for parameter in self.parameters(task))

    def smallest(self, task: Task) -> Architecture:
        return {parameter.name: parameter.values[0] for parameter in self.parameters(task)}

    def largest(self, task: Task) -> Architecture:
        return {parameter.name: parameter.values[-1] for parameter in self.parameters(task)}

    def build(self, architecture: Architecture, task: Any) -> nn.Module:
        """The untrained student, on the current default device, for the task's examples and with its classes."""
        recipe = self.model(architecture, task)
        return zoos.build(recipe.zoo, recipe.name, recipe.args, task)

    def begin(self, architecture: Architecture, task: Any) -> nn.Module:
        """The student as its training begins, in train mode, on the current default device."""
        model = self.build(architecture, task)
        if self.weights is not None:
            self.weights(model, architecture)
        return model.train()

    def learns_by(self, architecture: Architecture) -> Optimizer:
        """What an architecture is trained with unless the user says otherwise."""
        return self.optimizer if self.optimizers is None else self.optimizers(architecture)

    def read(self, architecture: Architecture, dataset: Dataset) -> Dataset:
        """The data as an architecture's students read them."""
        return dataset if self.reads is None else replace(dataset, task=self.reads(architecture, dataset.task))

    def check(self, architecture: Architecture, task: Task, *, field: str = "student.architecture") -> None:
        """Raise InvalidRequest unless the family takes the task and every parameter has a value within its bounds."""
        self.require(task, field=f"{field.rpartition('.')[0]}.space".lstrip("."))
        known = {parameter.name: parameter for parameter in self.parameters(task)}
        for name in known.keys() ^ architecture.keys():
            wrong = "is missing" if name in known else f"is no parameter of {self.name} ({', '.join(known)})"
            raise InvalidRequest(f"{name!r} {wrong}", field=field)
        for name, parameter in known.items():
            if architecture[name] not in parameter.values:
                low, high, step = parameter.low, parameter.high, parameter.step
                raise InvalidRequest(
                    f"{architecture[name]} is not in {low}…{high} in steps of {step}", field=f"{field}.{name}"
                )


# The files of this room that register one, each under its own name; a new file goes in here, too.
FILES = (
    "autoformer",
    "bert",
    "convnext",
    "mobilenet",
    "nasbench201",
    "pit",
    "regnet",
    "resnet",
    "resnet_cifar",
    "vit",
)
spaces: Registry[Space] = Registry("space", "archsearch.spaces", FILES)
