"""What a distillation loss is: a function of what student and teacher show of a batch, and of its own settings.

A loss is the teacher's part alone. The labels' part (cross-entropy, or the binary one for multi-label tasks) is added
by `objective.py` with the weight the method was published with, so that losses can be summed.
"""

# B batch, C channels, H W space, M decisions, K classes, D features, N T tokens

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict

from archsearch import domains
from archsearch.data.task import Task
from archsearch.errors import InvalidRequest
from archsearch.plain import StrictNumbers
from archsearch.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

# What a loss looks at beyond the student's logits. `tail`: the teacher's own layers, asked to go on from other maps.
Read = Literal["logits", "stages", "embedding", "head", "attention", "tail"]
# Of a loss's settings, and of how many layers student and teacher have, the layers it compares, counted from 0.
Layers = Callable[[int, int, Any], Sequence[tuple[int, int]]]


class Settings(StrictNumbers):
    """A loss's own settings, with the published values as defaults; a loss without any uses this class itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Stage:
    """What one stage shows of a batch: tokens, which may lie on a grid.

    Attributes:
        values: A map B×C×H×W, as the network passes it on; or B×N×D, tokens that lie on no grid.
        mask_BN: Which tokens are real and not padding; None where all are.
    """

    values: Tensor
    mask_BN: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int] | None:
        """Height and width, where there is a grid."""
        return (self.values.shape[2], self.values.shape[3]) if self.values.ndim == 4 else None

    @property
    def size(self) -> tuple[int, ...]:
        """Of one example: (C, H, W), or (D,) without a grid, where examples differ in how many tokens they have."""
        return tuple(self.values.shape[1:]) if self.values.ndim == 4 else (self.values.shape[2],)

    @property
    def map_BCHW(self) -> Tensor:
        """On its grid; raises InvalidRequest where there is none."""
        if self.values.ndim == 4:
            return self.values
        raise InvalidRequest(
            "this method compares maps, and these networks show tokens that lie on no grid; take kd or sp",
            field="distill.method",
        )

    @property
    def tokens_BND(self) -> Tensor:
        """One after the other, a map's row by row."""
        return self.values.flatten(2).transpose(1, 2) if self.values.ndim == 4 else self.values


@dataclass(frozen=True)
class Attention:
    """What one layer's attention makes of a batch's tokens, before it is parted into heads.

    Attributes:
        query_BTD, key_BTD, value_BTD: Its projections; each head has an equal part of D, in order.
        heads: How many.
        mask_BT: Which tokens are real and not padding; None where all are.
    """

    query_BTD: Tensor
    key_BTD: Tensor
    value_BTD: Tensor
    heads: int
    mask_BT: Tensor | None = None


@dataclass(frozen=True)
class Outputs:
    """What one network shows of a batch. Only what the losses read is there.

    Attributes:
        answers_MK: A row for each decision: one an example, or one for each of its tokens or pixels that count.
        stages: First to last, as many as the other network's and each the counterpart of the other's of the same
            number. Widths and resolutions may differ. Where an image transformer's tokens lie on a grid, they come as a
            map.
        embedding_BD: What enters the classifier.
        weight_KD: The classifier's weights.
        attention: One a layer, first to last; None of a layer that no loss looks at.
        rest_M: Of a teacher whose likeliest answers alone were kept, as logarithms of probabilities: that of all other
            classes together, whose own answers are -inf. None where all are there, as losses get them.
    """

    answers_MK: Tensor
    stages: tuple[Stage, ...] = ()
    embedding_BD: Tensor | None = None
    weight_KD: Tensor | None = None
    attention: tuple[Attention | None, ...] = ()
    rest_M: Tensor | None = None

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """The stages on their grids, B×C×H×W, for losses that need one."""
        return tuple(stage.map_BCHW for stage in self.stages)


@dataclass(frozen=True)
class LossInputs:
    """One batch as a loss sees it.

    Attributes:
        student: With gradients.
        teacher: Without; None where no loss reads it.
        targets_M: Labels of the decisions, int64; of a multi-label task M×K of 0 and 1, float32.
        row_B: Numbers of the examples in the training split, and behind it of those without labels.
        done: Share of the training that is over, 0 to 1: what warm-ups look at.
        adapter: The loss's own trained module, as its `adapter` built it.
        tail: The teacher's answers M×K if its stage number i (as in `stages`) had shown this map; gradients flow to it.
        weight_M: What each decision counts for in the labels' loss, where the classes are weighed.
        example_M: Which example of the batch a decision belongs to; None where every example is one decision.
        known_M: Which decisions have a label of their own; None where all have. In the place of the others losses get
            what the teacher answers.
        other_M, share_M: Labels of what is mixed into each view, and the share that is of its own; None where views
            show one example. Losses that read the teacher get the label of the larger share.
    """

    student: Outputs
    teacher: Outputs | None
    targets_M: Tensor
    row_B: Tensor
    done: float = 1.0
    adapter: nn.Module | None = None
    tail: Callable[[int, Tensor], Tensor] | None = None
    weight_M: Tensor | None = None
    example_M: Tensor | None = None
    known_M: Tensor | None = None
    other_M: Tensor | None = None
    share_M: Tensor | None = None

    @property
    def targets_B(self) -> Tensor:
        """Labels of whole examples; raises InvalidRequest where an example is several decisions."""
        if self.example_M is None:
            return self.targets_M
        raise InvalidRequest(
            "this method compares examples by their labels, and here an example has several; take kd or dkd",
            field="distill.method",
        )


@dataclass(frozen=True)
class Sizes:
    """What an adapter has to be built for.

    Attributes:
        student_stages, teacher_stages: Of each stage its `Stage.size`, whose first number is its width; empty unless
            stages are read.
        student_dim, teacher_dim: D of the embeddings; 0 unless they are read.
        images: That are learned from, with labels and without.
    """

    student_stages: tuple[tuple[int, ...], ...]
    teacher_stages: tuple[tuple[int, ...], ...]
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
        grid: Whether it needs stages to lie on a grid, as those of images do.
        layers: Of a loss that reads attention: which layers it compares.
        by_labels: Whether its value depends on the labels; where an example has none, on what the teacher answers.
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
    grid: bool
    layers: Layers | None
    refuse: Callable[[Task], str | None]
    by_labels: bool

    @property
    def needs_teacher(self) -> bool:
        return bool(self.reads)

    def unseen(self, task: Task) -> str | None:
        """What it looks at and the networks of a task do not show; None where they show everything."""
        domain = domains.of(task)
        if self.grid and not domain.grid:
            return f"compares maps, and what networks of {domain.examples} show lies on no grid"
        if "attention" in self.reads and not domain.attention:
            return f"compares projections of attention, which networks of {domain.examples} do not show"
        return None


def serves(loss: Loss) -> list[str]:
    """The domains whose networks show what a loss looks at."""
    return [name for name in domains.DOMAINS if loss.unseen(domains.sized(name, 2, {})) is None]


# The files of losses/ that register one, each under its own name; a new file goes in here, too.
FILES = (
    "at",
    "blockwise",
    "catkd",
    "clkd",
    "cosine",
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
    "minilm",
    "mld",
    "mlkd",
    "none",
    "pkd",
    "reviewkd",
    "rkd",
    "sp",
    "tf_kd",
    "tinybert",
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
    grid: bool = False,
    layers: Layers | None = None,
    refuse: Callable[[Task], str | None] = lambda task: None,
    by_labels: bool = False,
) -> Callable[[Callable[[LossInputs, Any], Tensor]], Callable[[LossInputs, Any], Tensor]]:
    """Register a loss under `name`; see `Loss` for the arguments."""

    def register(compute: Callable[[LossInputs, Any], Tensor]) -> Callable[[LossInputs, Any], Tensor]:
        doc = (compute.__doc__ or "").strip().splitlines()[0]
        told = (reads, weight, labels, adapter, tasks, grid, layers, refuse, by_labels)
        entry = Loss(name, doc, compute, source, settings, *told)
        losses.add(name, entry)
        return compute

    return register


def more_than_two_classes(task: Task) -> str | None:
    """For losses that compare the classes among themselves: with two there is nothing to compare."""
    if task.classes > 2:
        return None
    return "with 2 classes its terms are constant and teach nothing; use kd"
