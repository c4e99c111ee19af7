"""Networks side by side on one split: a student, its teacher, and the same student without a teacher."""

# B batch, C channels, H W space, N images, K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch import domains
from archsearch.data.answers import Network
from archsearch.data.metrics import scores
from archsearch.data.task import Split, Task, Truth
from archsearch.device import where
from archsearch.evaluate.metrics import Evaluation, Likeness, Logits, evaluate, likeness
from archsearch.evaluate.multilabel import MultiLabelEvaluation, evaluate_labels

if TYPE_CHECKING:
    from torch import Tensor, nn

STUDENT, TEACHER, NO_TEACHER = "student", "teacher", "no_teacher"


@dataclass(frozen=True)
class Row:
    """One network: what it is worth, and how like the teacher it answers (None for the teacher, or without one).

    Where nobody gave labels (`truth`), the evaluation is against the teacher's first answers: its shares are agreement,
    and what only labels tell (accuracy, calibration, likelihood) is not said.
    """

    evaluation: Evaluation | MultiLabelEvaluation
    to_teacher: Likeness | None
    truth: Truth = "labels"


def network(model: nn.Module, task: Task) -> Network:
    """A student, wherever it lies, as something that takes examples as a split gives them."""
    domain = domains.of(task)

    def run(x: Tensor) -> Tensor:
        logits_BK: Tensor = model(domain.prepare(x.to(where(model)), task))
        return logits_BK

    return run


def compare(logits: Mapping[str, Logits], split: Split, task: Task) -> dict[str, Row]:
    """Every network's answers against the labels and, where there is one called `teacher`, against its answers; it has
    no row where these are what is right."""
    teacher_NK, judge = logits.get(TEACHER), evaluate_labels if task.kind == "multilabel" else evaluate
    shown = {name: each for name, each in logits.items() if name != TEACHER or task.truth == "labels"}
    return {
        name: Row(
            judge(logits_NK, np.asarray(split.y_N), task.class_names),
            likeness(teacher_NK, logits_NK, task.kind) if teacher_NK is not None and name != TEACHER else None,
            task.truth,
        )
        for name, logits_NK in shown.items()
    }


def score(logits_NK: Logits, split: Split, task: Task) -> float:
    """What the task is judged by."""
    judge = domains.judge(task)
    return scores((judge,), logits_NK, split.y_N)[judge.key]


def figures(row: Row) -> dict[str, float]:
    """What a network is worth, by the keys of metrics."""
    found = row.evaluation
    if isinstance(found, MultiLabelEvaluation):
        return {"map": found.mean_ap, "nll": found.nll}
    if row.truth == "teacher":
        return {"agreement": found.top1_acc.percent}
    return {
        "acc": found.top1_acc.percent,
        "balanced_acc": found.balanced_acc,
        "macro_f1": found.macro_f1,
        "mcc": found.mcc,
        "nll": found.nll,
    }


def summary(row: Row) -> dict[str, Any]:
    """The figures of a row that fit into a result, as plain JSON."""
    found, like = row.evaluation, row.to_teacher
    if row.truth == "teacher" and isinstance(found, Evaluation):
        return {
            "images": found.images,
            "agreement": found.top1_acc.percent,
            "agreement_low": found.top1_acc.low,
            "agreement_high": found.top1_acc.high,
            "kl_to_teacher": like.kl if like else None,
        }
    if isinstance(found, MultiLabelEvaluation):
        quality: dict[str, Any] = {"map": found.mean_ap}
    else:
        quality = {
            "top1_acc": found.top1_acc.percent,
            "top1_low": found.top1_acc.low,
            "top1_high": found.top1_acc.high,
            "top5_acc": found.top5_acc.percent if found.top5_acc else None,
            "balanced_acc": found.balanced_acc if found.uneven else None,
            "macro_f1": found.macro_f1,
            "mcc": found.mcc,
        }
    return {
        "images": found.images,
        **quality,
        "nll": found.nll,
        "ece": found.ece,
        "agreement": like.agreement if like else None,
        "kl_to_teacher": like.kl if like else None,
    }
