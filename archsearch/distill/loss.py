"""What a distillation loss is: a function of what student and teacher show of a batch, and of its own settings.

A loss is the teacher's part alone. The labels' part (cross-entropy, or the binary one for multi-label tasks) is added
by `objective.py` with the weight the method was published with, so that losses can be summed.
"""

# B batch, C channels, H W space, K classes, D features

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict

from archsearch.data.task import Task
from archsearch.plain import StrictNumbers
from archsearch.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

# What a loss looks at beyond the student's logits. `tail`: the teacher's own layers, asked to go on from other maps.
Read = Literal["logits", "stages", "embedding", "head", "tail"]


class Settings(StrictNumbers):
    """A loss's own settings, with the published values as defaults; a loss without any uses this class itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Outputs:
    """What one network shows of a batch. Only what the losses read is there.

    Attributes:
        logits_BK: Its answers.
        maps: Its stages, B×C×H×W, first to last, as many as the other network's and each the counterpart of the
            other's of the same number. Widths and resolutions may differ. A transformer's tokens come as a map.
        embedding_BD: What enters the classifier.
        weight_KD: The classifier's weights.
    """

    logits_BK: Tensor
    maps: tuple[Tensor, ...] = ()
    embedding_BD: Tensor | None = None
    weight_KD: Tensor | None = None


@dataclass(frozen=True)
class LossInputs:
    """One batch as a loss sees it.

    Attributes:
        student: With gradients.
        teacher: Without; None where no loss reads it.
        y: Labels, B int64; of a multi-label task B×K of 0 and 1, float32.
        row_B: Numbers of the images in the training split.
        done: Share of the training that is over, 0 to 1: what warm-ups look at.
        adapter: The loss's own trained module, as its `adapter` built it.
        tail: The teacher's logits B×K if its stage number i (as in `maps`) had shown this map; gradients flow to it.
        weight_B: What each image counts for in the labels' loss, where the classes are weighed.
    """

    student: Outputs
    teacher: Outputs | None
    y: Tensor
    row_B: Tensor
    done: float = 1.0
    adapter: nn.Module | None = None
    tail: Callable[[int, Tensor], Tensor] | None = None
    weight_B: Tensor | None = None


@dataclass(frozen=True)
class Sizes:
    """What an adapter has to be built for.

    Attributes:
        student_maps, teacher_maps: (C, H, W) of each stage in `Outputs.maps`; empty unless stages are read.
        student_dim, teacher_dim: D of the embeddings; 0 unless they are read.
        images: Of the training split.
    """

    student_maps: tuple[tuple[int, int, int], ...]
    teacher_maps: tuple[tuple[int, int, int], ...]
    student_dim: int
    teacher_dim: int
    classes: int
    images: int


@dataclass(frozen=True)
class Loss:
    """A loss by name.

    Attributes:
        compute: From a batch and settings to a scalar in float32.
        settings: The class of its settings.
        reads: What it looks at; empty where the teacher is not asked.
        weight, labels: Published weights of the loss and of the labels' part beside it, when used alone.
        adapter: Builds the loss's own trained module (regressors, memory banks), which never leaves the training.
        tasks: Kinds of task it is defined for.
        refuse: Why it makes no sense for a task, with what to take instead; None where it does.
    """

    name: str
    doc: str
    compute: Callable[[LossInputs, Any], Tensor]
    source: str
    settings: type[Settings]
    reads: Set[Read]
    weight: float
    labels: float
    adapter: Callable[[Sizes, Any], nn.Module] | None
    tasks: Set[str]
    refuse: Callable[[Task], str | None]

    @property
    def needs_teacher(self) -> bool:
        return bool(self.reads)


# The files of losses/ that register one, each under its own name; a new file goes in here, too.
FILES = (
    "at",
    "blockwise",
    "catkd",
    "clkd",
    "crd",
    "dist",
    "dkd",
    "fam",
    "fitnet",
    "kd",
    "kd_std",
    "l2d",
    "l2d_class",
    "l2d_instance",
    "label_smoothing",
    "mld",
    "mlkd",
    "none",
    "reviewkd",
    "rkd",
    "sp",
    "tf_kd",
)
losses: Registry[Loss] = Registry("distillation method", "archsearch.distill.losses", FILES)


def loss(
    name: str,
    *,
    source: str,
    reads: Set[Read],
    settings: type[Settings] = Settings,
    weight: float = 1.0,
    labels: float = 1.0,
    adapter: Callable[[Sizes, Any], nn.Module] | None = None,
    tasks: Set[str] = frozenset({"classification"}),
    refuse: Callable[[Task], str | None] = lambda task: None,
) -> Callable[[Callable[[LossInputs, Any], Tensor]], Callable[[LossInputs, Any], Tensor]]:
    """Register a loss under `name`; see `Loss` for the arguments."""

    def register(compute: Callable[[LossInputs, Any], Tensor]) -> Callable[[LossInputs, Any], Tensor]:
        doc = (compute.__doc__ or "").strip().splitlines()[0]
        entry = Loss(name, doc, compute, source, settings, reads, weight, labels, adapter, tasks, refuse)
        losses.add(name, entry)
        return compute

    return register


def more_than_two_classes(task: Task) -> str | None:
    """For losses that compare the classes among themselves: with two there is nothing to compare."""
    if task.classes > 2:
        return None
    return "with 2 classes its terms are constant and teach nothing; use kd"
