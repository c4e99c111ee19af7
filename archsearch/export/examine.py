"""The test split, read once: every format of the student, and the networks it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch import domains
from archsearch.data.task import Dataset, Task
from archsearch.device import kind, put_on
from archsearch.evaluate import STUDENT, Network, Row, answers, compare, network, score, write_evaluation
from archsearch.export.make import REFERENCE, Formats
from archsearch.export.report import write_report


@dataclass(frozen=True)
class Examined:
    """What the test split told.

    Attributes:
        report: What `report.json` holds.
        rows: The student's row and those of the networks beside it.
        scores: What the task is judged by, by format and by network.
    """

    report: dict[str, Any]
    rows: Mapping[str, Row]
    scores: Mapping[str, float]


def score_formats(
    folder: Path,
    formats: Formats,
    dataset: Dataset,
    task: Task,
    *,
    device: str = "cpu",
    listener: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Read the test split with the formats alone; writes the report and returns it. Arguments as `examine` has them."""
    logits = answers(_networks(folder, formats, task, device), dataset.test, report=listener)
    scores = {name: score(logits_NK, dataset.test, task) for name, logits_NK in logits.items()}
    return write_report(folder, formats, scores, images=len(dataset.test), data_sha256=dataset.sha256)


def examine(
    folder: Path,
    formats: Formats,
    dataset: Dataset,
    task: Task,
    others: Mapping[str, Network],
    *,
    device: str = "cpu",
    listener: Callable[[int, int], None] | None = None,
) -> Examined:
    """Read the test split once, with everything there is; writes the report, the evaluation and its pictures.

    Args:
        task: The student's own: its normalisation is not the data's where it learned from other data.
        others: Networks beside the student, by what `evaluate` calls them.
        device: Where the weights themselves answer; every other form runs as it will, on this processor.
        listener: Called after every batch with images done and images in all.
    """
    own = _networks(folder, formats, task, device)
    logits = answers({**own, **others}, dataset.test, report=listener)
    scores = {name: score(logits_NK, dataset.test, task) for name, logits_NK in logits.items()}
    tested = {name: scores[name] for name in own}
    report = write_report(folder, formats, tested, images=len(dataset.test), data_sha256=dataset.sha256)
    beside = {name: logits[name] for name in others}
    rows = compare({STUDENT: logits[REFERENCE], **beside}, dataset.test, task)
    write_evaluation(folder, rows, task, data_sha256=dataset.sha256)
    return Examined(report, rows, scores)


def _networks(folder: Path, formats: Formats, task: Task, device: str) -> dict[str, Network]:
    """Every form of the student as something that takes examples as a split gives them."""
    own = {one.name: one.network() for one in formats.made}
    if kind(device) == "cpu":
        return own
    student = domains.of(task).open(folder)
    put_on(student, device, "student")
    return {**own, REFERENCE: network(student, task)}
