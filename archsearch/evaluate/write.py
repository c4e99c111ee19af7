"""An evaluation as files: `evaluation.json`, and two pictures of the student's row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from archsearch.data.task import Task
from archsearch.evaluate.compare import STUDENT, Row, summary
from archsearch.evaluate.metrics import Evaluation
from archsearch.evaluate.multilabel import MultiLabelEvaluation
from archsearch.evaluate.pictures import draw_calibration, draw_confusion
from archsearch.whole import write_whole

EVALUATION, CONFUSION, CALIBRATION = "evaluation.json", "confusion.png", "calibration.png"
# Of more classes than this the confusion matrix is told by its cells that are not zero, and not drawn.
_MOST_DRAWN = 1_000
CELLS = "confusion_cells"


def write_evaluation(
    folder: Path, rows: Mapping[str, Row], task: Task, *, data_sha256: str, split: str = "test"
) -> list[Path]:
    """Write `evaluation.json`, `calibration.png` and `confusion.png`; returns their paths.

    There is no confusion matrix where an image has many labels, and none is drawn of more than a thousand classes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    student = rows[STUDENT].evaluation
    found = [folder / EVALUATION, folder / CALIBRATION]
    write_whole(found[0], _text(as_json(rows, data_sha256=data_sha256, split=split)))
    one_label = isinstance(student, Evaluation)
    draw_calibration(student.bins, student.ece, found[1], unit="images" if one_label else "answers")
    (folder / CONFUSION).unlink(missing_ok=True)  # an earlier evaluation's
    if isinstance(student, Evaluation) and task.classes <= _MOST_DRAWN:
        names = task.class_names or tuple(map(str, range(task.classes)))
        found.append(folder / CONFUSION)
        draw_confusion(student.confusion_KK, names, found[-1])
    return found


def as_json(rows: Mapping[str, Row], *, data_sha256: str, split: str = "test") -> dict[str, Any]:
    """What `evaluation.json` holds: the data, the figures of each network, and each one's tables."""
    return {
        "split": split,
        "data_sha256": data_sha256,
        "units": {"*_acc, *_low, *_high, map, ece, agreement": "percent", "nll, kl_to_teacher": "nats"},
        "networks": {name: {**summary(row), **_tables(row.evaluation)} for name, row in rows.items()},
    }


def _text(evaluation: Mapping[str, Any]) -> str:
    """Its JSON, one network a line: a confusion matrix would take thousands of lines otherwise."""
    networks = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in evaluation["networks"].items())
    head = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in evaluation.items() if key != "networks"]
    return "{" + ",\n".join([*head, f'"networks": {{\n{networks}\n}}']) + "}\n"


def _tables(found: Evaluation | MultiLabelEvaluation) -> dict[str, Any]:
    bins = [asdict(bin) for bin in found.bins]
    if isinstance(found, MultiLabelEvaluation):
        return {"bins": bins, "per_label": [asdict(row) for row in found.per_label]}
    per_class = [asdict(row) for row in found.per_class]
    if len(found.confusion_KK) > _MOST_DRAWN:
        rows, columns = np.nonzero(found.confusion_KK)
        # Label, answer, images.
        cells = np.stack([rows, columns, found.confusion_KK[rows, columns]], axis=1)
        return {"bins": bins, "per_class": per_class, CELLS: cells.tolist()}
    return {"bins": bins, "per_class": per_class, "confusion": found.confusion_KK.tolist()}
