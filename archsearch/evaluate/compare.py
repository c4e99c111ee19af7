"""Networks side by side on one split: a student, its teacher, and the same student without a teacher."""

# B batch, C channels, H W space, N images, K classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch import domains
from archsearch.data.batches import MOST, asked
from archsearch.data.metrics import scores
from archsearch.data.task import Split, Task
from archsearch.evaluate.metrics import Evaluation, Likeness, Logits, evaluate, likeness
from archsearch.evaluate.multilabel import MultiLabelEvaluation, evaluate_labels

if TYPE_CHECKING:
    from torch import Tensor, nn

STUDENT, TEACHER, NO_TEACHER = "student", "teacher", "no_teacher"
# From images B×C×H×W in 0-1 to logits B×K.
Network = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class Row:
    """One network: what it is worth, and how like the teacher it answers (None for the teacher, or without one)."""

    evaluation: Evaluation | MultiLabelEvaluation
    to_teacher: Likeness | None


def network(model: nn.Module, task: Task) -> Network:
    """A student as something that takes examples as a split gives them."""
    domain = domains.of(task)

    def run(x: Tensor) -> Tensor:
        logits_BK: Tensor = model(domain.prepare(x, task))
        return logits_BK

    return run


def answers(
    networks: Mapping[str, Network],
    split: Split,
    *,
    batch_size: int = MOST,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Logits]:
    """The logits N×K of every network, from one pass over the split, which may be memory-mapped.

    Args:
        batch_size: Images a call at most; fewer where they take much memory or time. It does not change the result.
        report: Called after every batch with images done and images in all.
    """

    def all_of_them(x_BCHW: Tensor) -> dict[str, Logits]:
        return {name: run(x_BCHW).float().cpu().numpy() for name, run in networks.items()}

    found: dict[str, list[Logits]] = {name: [] for name in networks}
    for _, told in asked(all_of_them, split.examples, len(split), most=batch_size, report=report):
        for name, logits_BK in told.items():
            found[name].append(logits_BK)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def compare(logits: Mapping[str, Logits], split: Split, task: Task) -> dict[str, Row]:
    """Every network's answers against the labels and, where there is one called `teacher`, against its answers."""
    teacher_NK, judge = logits.get(TEACHER), evaluate_labels if task.kind == "multilabel" else evaluate
    return {
        name: Row(
            judge(logits_NK, np.asarray(split.y_N), task.class_names),
            likeness(teacher_NK, logits_NK, task.kind) if teacher_NK is not None and name != TEACHER else None,
        )
        for name, logits_NK in logits.items()
    }


def score(logits_NK: Logits, split: Split, task: Task) -> float:
    """What the task is judged by, in percent."""
    return next(iter(scores(logits_NK, split.y_N, task).values()))


def summary(row: Row) -> dict[str, Any]:
    """The figures of a row that fit into a result, as plain JSON."""
    found, like = row.evaluation, row.to_teacher
    if isinstance(found, MultiLabelEvaluation):
        quality: dict[str, Any] = {"map": found.mean_ap}
    else:
        quality = {
            "top1_acc": found.top1_acc.percent,
            "top1_low": found.top1_acc.low,
            "top1_high": found.top1_acc.high,
            "top5_acc": found.top5_acc.percent if found.top5_acc else None,
            "balanced_acc": found.balanced_acc if found.uneven else None,
        }
    return {
        "images": found.images,
        **quality,
        "nll": found.nll,
        "ece": found.ece,
        "agreement": like.agreement if like else None,
        "kl_to_teacher": like.kl if like else None,
    }
