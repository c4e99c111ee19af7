"""Which of a graph's outputs are its answers, what they are, and which others show something on the way there."""

# B batch, K classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archsearch.data.task import awaits_teacher
from archsearch.domains.images.task import ImageTask
from archsearch.errors import TeacherError
from archsearch.teacher_config import MOST_CLASSES
from archsearch.zoos.onnx.graph import Graph
from archsearch.zoos.onnx.network import Array, Meaning, Stage
from archsearch.zoos.onnx.shown import Shown

# Of several outputs that could be the answers, the first of these.
_NAMES = ("logits", "output", "output0", "probabilities", "scores", "predictions")
# What embeddings are called, by parts of their names.
_EMBEDDED = ("embed", "feature", "pool")


@dataclass(frozen=True)
class Found:
    """Which output is what: the answers and how many, and the stages beside them."""

    answer: int
    width: int
    meaning: Meaning
    stages: tuple[Stage, ...]


def answers_of(
    graph: Graph,
    names: Sequence[str],
    outputs: Sequence[Array],
    shown: Shown,
    task: ImageTask | None,
    layout: str,
    field: str,
) -> Found:
    """Which of the outputs the answers are, what they are, and which others are stages."""
    rows = [number for number, output in enumerate(outputs) if _is_row(output)]
    if not rows:
        shapes = "; ".join(f"{name} {output.shape[1:]}" for name, output in zip(names, outputs, strict=True))
        raise TeacherError(
            f"no output of the graph is a row of answers an image ({shapes[:300]}); export it with its classifier",
            field=field,
        )
    classes = None if task is None or awaits_teacher(task) else task.classes
    fitting = [number for number in rows if outputs[number][0].size == classes] or rows
    answer = next((names.index(name) for name in _NAMES if name in [names[number] for number in fitting]), fitting[0])
    width = outputs[answer][0].size
    if not 2 <= width <= MOST_CLASSES:
        raise TeacherError(
            f"the graph gives {width} answers an image, and a teacher tells two classes at least", field=field
        )
    others = [number for number, output in enumerate(outputs) if not (_is_row(output) and output[0].size == width)]
    meaning = _meaning(graph, names[answer], outputs[answer], shown)
    return Found(answer, width, meaning, _stages(others, outputs, layout))


def embedding_of(names: Sequence[str], outputs: Sequence[Array], layout: str) -> Found:
    """What stands for an image: the widest row of numbers, or the mean over places of the last map or tokens."""
    rows = [number for number, output in enumerate(outputs) if _is_row(output)]
    named = [number for number in rows if any(part in names[number].lower() for part in _EMBEDDED)]
    if rows:
        answer = max(named or rows, key=lambda number: outputs[number][0].size)
        width = outputs[answer][0].size
    else:
        answer = len(outputs) - 1
        width = outputs[answer].shape[-1 if layout == "nhwc" or outputs[answer].ndim == 3 else 1]
    others = [number for number in range(len(outputs)) if number != answer]
    return Found(answer, width, "logits", _stages(others, outputs, layout))


def _stages(places: Sequence[int], outputs: Sequence[Array], layout: str) -> tuple[Stage, ...]:
    """Those outputs that show a map, tokens or a row, the channels first."""
    found = (Stage(place, outputs[place].shape[1:], layout == "nhwc" and outputs[place].ndim == 4) for place in places)
    return tuple(replace(each, sizes=_channels_first(each)) for each in found if len(each.sizes) <= 3)


def _is_row(output: Array) -> bool:
    return output.ndim >= 2 and output.size == output.shape[0] * output.shape[1]


def _channels_first(stage: Stage) -> tuple[int, ...]:
    return (stage.sizes[-1], *stage.sizes[:-1]) if stage.last else stage.sizes


def _meaning(graph: Graph, name: str, answers: Array, shown: Shown) -> Meaning:
    """What the answers are: as said, by what they come out of, or by what they look like."""
    if shown.outputs == "logits":
        return "logits"
    rows_BK = answers.reshape(len(answers), -1).astype(np.float64)
    sum_to_one = bool((rows_BK >= 0).all() and np.allclose(rows_BK.sum(1), 1, atol=1e-2))
    if shown.outputs == "probabilities":
        return "softmax" if sum_to_one else "sigmoid"
    ends: Any = graph.ends_in(name)
    return ends or ("softmax" if sum_to_one else "logits")
