"""What somebody would take instead of a student: networks with weights, each with a linear probe, not trained."""

# N examples, D features, K classes

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from archsearch import domains
from archsearch.data.balanced import balanced_rows
from archsearch.data.metrics import scores
from archsearch.data.task import Dataset
from archsearch.device import where
from archsearch.pretrained import Shelf, features
from archsearch.request import Architecture
from archsearch.ridge import leave_one_out

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn

HOW = "a linear probe: closed-form ridge on frozen features, not trained"
# Images a probe is fitted to, and those read at once.
MOST_FITTED, _AT_ONCE = 4_000, 256


def images_of(dataset: Dataset) -> int:
    """Images that pass through a network to probe it (count)."""
    return min(MOST_FITTED, len(dataset.train)) + len(dataset.selection) + len(dataset.test)


def probe(shelf: Shelf, architecture: Architecture, dataset: Dataset, alive: Callable[[], None]) -> dict[str, float]:
    """What a network's frozen features are worth on the selection and the test split, by what the task is judged by.

    The ridge is weighed by leave-one-out on labelled training images, of every class alike.

    Args:
        alive: Called between batches.

    Raises:
        NoHead: It has no linear head whose features could be read.
        TeacherError: The weights are not the network's.
    """
    import torch

    model, _ = shelf.stock(architecture)
    read, judge = shelf.space().read(architecture, dataset), domains.judge(dataset.task)
    rows = balanced_rows(dataset.train.y_N, min(MOST_FITTED, len(dataset.train)), 0)

    def of(split: Any, rows: Sequence[int] | npt.NDArray[np.intp]) -> Tensor:
        found = []
        for start in range(0, len(rows), _AT_ONCE):
            alive()
            found.append(_features(model, split.examples(rows[start : start + _AT_ONCE]), read.task))
        return torch.cat(found).double()

    x_ND = of(dataset.train, rows)
    mean_D, scale_D = x_ND.mean(0), x_ND.std(0, correction=0)
    scale_D = torch.where(scale_D > 1e-6 * scale_D.max(), scale_D, torch.inf)  # what never differs says nothing
    labels = dataset.train.take(rows).labels()
    y_NK = labels if labels.ndim == 2 else torch.nn.functional.one_hot(labels, dataset.task.classes)
    head = leave_one_out((x_ND - mean_D) / scale_D, y_NK.double())
    worth = {}
    for name in ("selection", "test"):
        split: Any = getattr(dataset, name)
        answers_NK = (of(split, range(len(split))) - mean_D) / scale_D @ head.coefficients_DK + head.intercept_K
        worth[f"{name}_{judge.key}"] = scores((judge,), answers_NK.numpy(), split.y_N)[judge.key]
    return worth


def _features(model: nn.Module, x: Tensor, task: Any) -> Tensor:
    return features(model, domains.of(task).prepare(x.to(where(model)), task))
