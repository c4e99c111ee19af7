"""A few labels a class, drawn from those there are; the other examples lose theirs, or are left out."""

# N examples, K classes

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from archsearch.data.balanced import balanced_rows
from archsearch.data.notes import Note
from archsearch.data.task import Dataset, unknown
from archsearch.errors import InvalidRequest
from archsearch.request import Few

D = TypeVar("D", bound=Any)  # a `Dataset`, or what a domain makes one of
T = TypeVar("T", bound=Any)  # a `Task`


def few_shots(dataset: D, spec: Any) -> D:
    """The data with as many labels a class in the training split as a request's `data` says; as they are where it says
    nothing.

    The draw is balanced and depends on the seed alone; what is drawn for fewer is a part of what is drawn for more.
    What images are normalised by stays what it is of all of them.

    Raises InvalidRequest naming `data.shots` or `data.rest`.
    """
    if not isinstance(spec, Few) or spec.shots is None:
        return dataset
    task, train = dataset.task, dataset.train
    counted = train.y_N.ndim == 1 and task.truth == "labels"
    check_shots(spec, task, np.bincount(train.y_N, minlength=task.classes).tolist() if counted else [])
    rows = balanced_rows(train.y_N, spec.shots * task.classes, spec.shots_seed)
    others = np.setdiff1d(np.arange(len(train)), rows)
    name = hashlib.sha256(f"{dataset.sha256} {spec.shots} {spec.shots_seed} {spec.rest}".encode()).hexdigest()
    notes = (*dataset.notes, _told(spec, len(rows), len(others)))
    changed: dict[str, Any] = {"train": train.take(rows), "sha256": name, "notes": notes}
    if spec.rest == "unlabelled" and len(others):
        changed["unlabelled"] = _apart(train.take(others), dataset.unlabelled)
    if not isinstance(dataset, Dataset):  # texts before a tokenizer is known tell of their task bit by bit
        return replace(dataset, **changed, prevalence=evenly(task).prevalence)
    changed["task"] = evenly(task)
    return replace(dataset, **changed)


def evenly(task: T) -> T:
    """The task with as many training examples of every class."""
    return replace(task, prevalence=(1 / task.classes,) * task.classes)


def check_shots(spec: Few, task: Any, counts_K: list[int]) -> None:
    """Raise InvalidRequest where a class has fewer training examples than are asked for.

    Args:
        counts_K: How many each has.
    """
    if spec.shots is None:
        return
    if task.truth == "teacher":
        raise InvalidRequest("no example has a label to be one of so many; leave it out", field="data.shots")
    if task.kind == "multilabel":
        raise InvalidRequest(
            "examples with any number of labels are of no single class to draw from; leave it out", field="data.shots"
        )
    label = int(np.argmin(counts_K))
    if counts_K[label] < spec.shots:
        called = repr(task.class_names[label]) if task.class_names else str(label)
        raise InvalidRequest(
            f"class {called} has {counts_K[label]} training examples, and {spec.shots} of each are asked for; ask for "
            f"{counts_K[label]} or fewer",
            field="data.shots",
        )


def _apart(rest: Any, others: Any) -> Any:
    """The rest without its labels, and what had none before."""
    blank = replace(rest, y_N=unknown(len(rest)))
    return blank if others is None else blank.joined([others])


def _told(spec: Few, labelled: int, others: int) -> Note:
    left = "are learned from without" if spec.rest == "unlabelled" else "are left out"
    return Note(
        "few_shots", f"{labelled:,} training examples keep their labels, {spec.shots} a class; {others:,} {left}"
    )
