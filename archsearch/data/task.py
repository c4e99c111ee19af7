"""What a task means to the rooms between: how many answers there are, which are right, and what guessing reaches.

What an example is (pixels, words) is its domain's business: `archsearch.domains.of(task)` has the rest. Here an example
is a row that can be taken, and a tensor that a network is asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from typing_extensions import TypeVar

from archsearch.data.notes import Note

if TYPE_CHECKING:
    from torch import Tensor

# N examples, K classes

Kind = Literal["classification", "multilabel"]
# What is held to be right: labels somebody gave, or, where nobody gave any, what the teacher answers.
Truth = Literal["labels", "teacher"]
# Examples of the largest class for each of the smallest, above which accuracy hides what becomes of the smallest.
UNEVEN = 3.0
# N numbers of classes, or N×K of 0 and 1.
Labels = npt.NDArray[np.int64] | npt.NDArray[np.uint8]
Rows = slice | npt.NDArray[np.integer]
# Stands where an example has no label.
UNKNOWN = -1


class Task(Protocol):
    """The question a data set asks, as plain JSON: a frozen dataclass of its domain's.

    Attributes:
        domain: Which domain it is of; see `archsearch.domains`.
        classes: How many answers there are (count).
        kind: Whether each example has one label, or any number of them (`multilabel`), none included.
        prevalence: Share of the training examples that have each class or label; empty where it is not known.
        truth: What answers are held against. Where that is the teacher there are no classes until it is known, and then
            its own; its answers stand in the place of labels for whoever measures, and nothing is trained on them.
    """

    @property
    def domain(self) -> str: ...
    @property
    def classes(self) -> int: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def prevalence(self) -> tuple[float, ...]: ...
    @property
    def truth(self) -> Truth: ...
    @property
    def uneven(self) -> bool: ...
    @property
    def chance(self) -> float: ...


def awaits_teacher(task: Task) -> bool:
    """Whether a task has no classes yet: they will be the teacher's."""
    return task.truth == "teacher" and not task.classes


def is_uneven(kind: Kind, prevalence: tuple[float, ...]) -> bool:
    """Whether one class has so many more examples than another that accuracy says little: three times as many.

    Such a task is judged by balanced accuracy, and its labels' loss weighs the classes.
    """
    return kind == "classification" and bool(prevalence) and max(prevalence) > UNEVEN * min(prevalence)


def guessing(kind: Kind, classes: int, prevalence: tuple[float, ...]) -> float:
    """What guessing reaches of what a task is judged by, in percent.

    Accuracy: the largest class's share, which answering with it always reaches. Balanced accuracy: the same for any
    guess. mAP: the labels' mean prevalence, for a ranking that knows nothing finds as many positives among its first
    examples as among all.
    """
    if kind == "multilabel":
        return 100.0 * sum(prevalence) / len(prevalence)
    if is_uneven(kind, prevalence) or not prevalence:
        return 100.0 / classes
    return 100.0 * max(prevalence)


class Labelled(Protocol):
    """Examples that are still being sorted out, with their labels.

    Attributes:
        y_N: int64 in [0, classes). Of a multi-label task it is N×K, uint8: 1 where an example has a label, else 0.
    """

    @property
    def y_N(self) -> Labels: ...

    def __len__(self) -> int: ...

    def take(self, rows: Rows) -> Self:
        """The examples of these rows with their labels."""


class Split(Labelled, Protocol):
    """Examples that a network can be asked about, with their labels."""

    def examples(self, rows: Rows) -> Tensor:
        """The examples of some rows as networks are asked about them, one tensor, batch first."""

    def labels(self) -> Tensor:
        """The labels as a tensor (a copy): N int64, or N×K float32, which binary cross-entropy takes."""

    def joined(self, others: Sequence[Self]) -> Self:
        """These examples, and then those of others of the same data; of many labels, those without labels have none."""


def joined_labels(each: Sequence[Labels]) -> Labels:
    """Labels of several splits, one after the other, in the form of the first."""
    first = each[0]
    shaped = [y_N if y_N.ndim == first.ndim else np.zeros((len(y_N), *first.shape[1:]), first.dtype) for y_N in each]
    found: Labels = np.concatenate(shaped)
    return found


def unknown(examples: int) -> Labels:
    """The labels of examples that have none."""
    return np.full(examples, UNKNOWN, dtype=np.int64)


def is_unknown(y_N: Labels) -> bool:
    """Whether none of the examples has a label."""
    return y_N.ndim == 1 and bool((y_N == UNKNOWN).all())


def label_tensor(y_N: Labels) -> Tensor:
    """What `Split.labels` returns: numbers of classes as they are, bytes of 0 and 1 as floats."""
    import torch

    return torch.from_numpy(np.array(y_N, dtype=np.int64 if y_N.dtype == np.int64 else np.float32))


T_co = TypeVar("T_co", bound=Task, default=Task, covariant=True)
S_co = TypeVar("S_co", bound=Split, default=Split, covariant=True)


@dataclass(frozen=True)
class Dataset(Generic[T_co, S_co]):
    """A task with its three splits. `sha256` names the bytes of all splits together.

    train: the student learns from it. selection: decisions are made on it. test: read once, at the very end.
    notes: what loading found that its owner should hear; no part of the data's identity.
    unlabelled: what nobody has labelled, of which the teacher's answers alone are learned; None where there is nothing
    of the kind. Its labels are all `UNKNOWN`, whatever the task.
    """

    task: T_co
    train: S_co
    selection: S_co
    test: S_co
    sha256: str
    notes: tuple[Note, ...] = ()
    unlabelled: S_co | None = None

    @property
    def training_examples(self) -> int:
        """How many a training sees, with labels and without (count)."""
        return len(self.train) + (0 if self.unlabelled is None else len(self.unlabelled))
