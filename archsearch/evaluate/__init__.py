"""What a student is worth: accuracy with its interval, likeness to the teacher, calibration, and every class.

The metrics are pure functions of logits N×K and labels; `answers` makes the logits of several networks in one pass.
"""

from archsearch.data.answers import Network, answers
from archsearch.evaluate.compare import (
    NO_TEACHER,
    STUDENT,
    TEACHER,
    Row,
    compare,
    figures,
    network,
    score,
    summary,
)
from archsearch.evaluate.metrics import Bin, ClassRow, Evaluation, Likeness, Logits, Share, evaluate, likeness, wilson
from archsearch.evaluate.multilabel import LabelRow, MultiLabelEvaluation, evaluate_labels
from archsearch.evaluate.pictures import draw_calibration, draw_confusion
from archsearch.evaluate.write import CALIBRATION, CELLS, CONFUSION, EVALUATION, MOST_DRAWN, as_json, write_evaluation

__all__ = [
    "CALIBRATION",
    "CELLS",
    "CONFUSION",
    "EVALUATION",
    "MOST_DRAWN",
    "NO_TEACHER",
    "STUDENT",
    "TEACHER",
    "Bin",
    "ClassRow",
    "Evaluation",
    "LabelRow",
    "Likeness",
    "Logits",
    "MultiLabelEvaluation",
    "Network",
    "Row",
    "Share",
    "answers",
    "as_json",
    "compare",
    "draw_calibration",
    "draw_confusion",
    "evaluate",
    "evaluate_labels",
    "figures",
    "likeness",
    "network",
    "score",
    "summary",
    "wilson",
    "write_evaluation",
]
