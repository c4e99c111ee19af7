"""Whether examples without labels are of the kind a teacher knows: how sure it is of them tells."""

# N examples, K classes

from __future__ import annotations

import numpy as np

from archsearch import domains
from archsearch.data.answers import Report, answers
from archsearch.data.notes import Note
from archsearch.data.task import Dataset, Split, Task
from archsearch.domains.domain import Teacher

# Examples of each kind that are looked at, at most.
MOST = 512
# Of how sure it is of labelled examples, beyond guessing, what less than is strange.
STRANGE = 0.5


def strange(teacher: Teacher, dataset: Dataset, report: Report | None = None) -> tuple[Note, ...]:
    """What is to be said where it is less than half as sure of examples without labels as of the selection split's.

    How sure is the mean probability of the likeliest class, beyond that of a guess among as many: with two classes half
    of certainty would be the guess itself. Of many labels an example it is that of the likeliest label.
    """
    if dataset.unlabelled is None:
        return ()
    guess = 0.0 if dataset.task.kind == "multilabel" else 1 / dataset.task.classes
    known, others = (sure(teacher, dataset.task, split, report) for split in (dataset.selection, dataset.unlabelled))
    if others - guess >= STRANGE * (known - guess):
        return ()
    what = domains.of(dataset.task).examples
    return (
        Note(
            "unlabelled_strange",
            f"of {what} without labels {teacher.name} is sure by {100 * others:.0f} % on average, of the selection "
            f"split's by {100 * known:.0f} %: they may be of other classes or of another kind than it learned from, "
            "and then its answers teach little. Look at some of them, or leave them out",
        ),
    )


def sure(teacher: Teacher, task: Task, split: Split, report: Report | None = None) -> float:
    """Mean probability of the likeliest class, over some examples spread over the split."""
    rows = np.linspace(0, len(split) - 1, min(MOST, len(split))).round().astype(np.int64)
    logits_NK = np.asarray(answers({"teacher": teacher.logits}, split.take(rows), report=report)["teacher"], np.float64)
    likeliest_N1 = logits_NK.max(axis=1, keepdims=True)
    if task.kind == "multilabel":
        return float(np.exp(-np.logaddexp(0, -likeliest_N1)).mean())
    return float((1 / np.exp(logits_NK - likeliest_N1).sum(axis=1)).mean())
