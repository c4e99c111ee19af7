"""An evaluation as files: `evaluation.json`, and two pictures of the student's row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from archsearch import domains
from archsearch.data.task import Task
from archsearch.evaluate.compare import STUDENT, Row, summary
from archsearch.evaluate.metrics import ClassRow, Evaluation
from archsearch.evaluate.multilabel import LabelRow, MultiLabelEvaluation
from archsearch.evaluate.pictures import draw_calibration, draw_confusion
from archsearch.whole import write_whole

EVALUATION, CONFUSION, CALIBRATION = "evaluation.json", "confusion.png", "calibration.png"
# Of more classes than this the confusion matrix is not written out, but its most frequent mistakes; nor drawn.
_MOST_WRITTEN, MOST_DRAWN = 100, 1_000
# Mistakes that are written then, and classes that get a row: the worst. So the file stays below a megabyte.
_MISTAKES, _ROWS = 1_000, 1_000
CELLS = "confusion_cells"


def write_evaluation(
    folder: Path, rows: Mapping[str, Row], task: Task, *, data_sha256: str, split: str = "test"
) -> list[Path]:
    """Write `evaluation.json`, `calibration.png` and `confusion.png`; returns their paths.

    There is no confusion matrix where an image has many labels, and none is drawn of more than a thousand classes.
    Without labels there is no calibration, and the matrix is of the teacher's answers and the student's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    student, labelled = rows[STUDENT].evaluation, task.truth == "labels"
    found = [folder / EVALUATION]
    write_whole(found[0], _text(as_json(rows, task, data_sha256=data_sha256, split=split)))
    for earlier in (CALIBRATION, CONFUSION):
        (folder / earlier).unlink(missing_ok=True)
    if labelled:
        found.append(folder / CALIBRATION)
        unit = domains.of(task).examples if isinstance(student, Evaluation) else "answers"
        draw_calibration(student.bins, student.ece, found[-1], unit=unit)
    if isinstance(student, Evaluation) and task.classes <= MOST_DRAWN:
        names = task.class_names or tuple(map(str, range(task.classes)))
        found.append(folder / CONFUSION)
        draw_confusion(student.confusion_KK, names, found[-1], truth="label" if labelled else "teacher's answer")
    return found


def as_json(rows: Mapping[str, Row], task: Task, *, data_sha256: str, split: str = "test") -> dict[str, Any]:
    """What `evaluation.json` holds: the data, the figures of each network, and each one's tables.

    `judged_by` and `beside` say which of the figures decide and which are usually told with them.
    """
    judge, *beside = domains.metrics(task)
    against = {"held_against": "the teacher's first answers; no label was seen"} if task.truth == "teacher" else {}
    return {
        "split": split,
        "data_sha256": data_sha256,
        **against,
        "judged_by": judge.describe(),
        "beside": [metric.describe() for metric in beside],
        "units": {"*_acc, *_low, *_high, macro_f1, map, ece, agreement": "percent", "nll, kl_to_teacher": "nats"},
        "networks": {name: {**summary(row), **_tables(row)} for name, row in rows.items()},
    }


def _text(evaluation: Mapping[str, Any]) -> str:
    """Its JSON, one network a line: a confusion matrix would take thousands of lines otherwise."""
    networks = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(row, separators=(',', ':'))}"
        for name, row in evaluation["networks"].items()
    )
    head = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in evaluation.items() if key != "networks"]
    return "{" + ",\n".join([*head, f'"networks": {{\n{networks}\n}}']) + "}\n"


def _tables(row: Row) -> dict[str, Any]:
    found = row.evaluation
    if row.truth == "teacher":
        return {name: value for name, value in _told(found, "agreement").items() if name != "bins"}
    return _told(found, "accuracy")


def _told(found: Evaluation | MultiLabelEvaluation, called: str) -> dict[str, Any]:
    """The tables of an evaluation.

    Args:
        called: What the share of a class's images is that are answered so.
    """
    bins = [_rounded(asdict(bin)) for bin in found.bins]
    if isinstance(found, MultiLabelEvaluation):
        return {"bins": bins, **_listed("per_label", found.per_label, "average_precision")}
    known = {"bins": bins, "classes": len(found.per_class), **_listed("per_class", found.per_class, called)}
    if len(found.per_class) <= _MOST_WRITTEN:
        return {**known, "confusion": found.confusion_KK.tolist()}
    wrong_M3 = found.cells_M3[found.cells_M3[:, 0] != found.cells_M3[:, 1]]
    worst = np.argsort(-wrong_M3[:, 2], kind="stable")[:_MISTAKES]
    # Label, answer, images; the most frequent first.
    return {**known, CELLS: wrong_M3[worst].tolist(), f"{CELLS}_left_out": len(wrong_M3) - len(worst)}


def _listed(key: str, rows: Sequence[ClassRow] | Sequence[LabelRow], judged: str) -> dict[str, Any]:
    """The rows of all classes or labels, or of the worst where there are very many."""
    described = [_rounded(asdict(row)) for row in rows]
    if judged == "agreement":
        described = [{judged if name == "accuracy" else name: v for name, v in row.items()} for row in described]
    if len(described) <= _ROWS:
        return {key: described}
    worst = sorted((row for row in described if row[judged] is not None), key=lambda row: row[judged])[:_ROWS]
    return {key: worst, f"{key}_left_out": len(described) - len(worst)}


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Percentages with two decimals; the ends of bins, which are shares, with four."""
    return {
        name: round(value, 4 if name in ("low", "high") else 2) if isinstance(value, float) else value
        for name, value in row.items()
    }
