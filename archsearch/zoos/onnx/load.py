"""From an ONNX file to a teacher: its input, its answers and its stages found out by looking and by one try."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.errors import TeacherError
from archsearch.request import LocalTeacher, OnnxTeacher
from archsearch.teacher_config import LARGEST_SIDE, MOST_CHANNELS
from archsearch.teachers.teacher import ImageTeacher
from archsearch.zoos.onnx import costs
from archsearch.zoos.onnx.graph import Graph, read_graph
from archsearch.zoos.onnx.library import session_of, told
from archsearch.zoos.onnx.network import Array, Intake, OnnxNetwork
from archsearch.zoos.onnx.outputs import answers_of, embedding_of
from archsearch.zoos.onnx.shown import Shown, in_file, in_whole_numbers, said
from archsearch.zoos.onnx.tried import guarded, tried

_KINDS = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}  # fmt: skip
_ANSWERS = frozenset(["tensor(float)", "tensor(float16)", "tensor(double)"])
# A side that is tried where neither graph, nor request, nor data say one.
_SIDE = 64


@dataclass(frozen=True)
class LoadedOnnx:
    """A teacher, and whether anybody said how its pixels are normalised."""

    teacher: ImageTeacher
    normalised: bool


@dataclass(frozen=True)
class _Taken:
    """What the graph's input says of itself: channels, height and width, None of what is free."""

    intake: Intake
    in_chans: int | None
    height: int | None
    width: int | None


def load_onnx(
    path: Path,
    source: LocalTeacher | OnnxTeacher,
    task: ImageTask | None,
    input_size: int | Sequence[int] | None = None,
    *,
    embeds: bool = False,
    field: str,
) -> LoadedOnnx:
    """A file as a teacher, its outputs as they come; raises TeacherError naming the field and the fix.

    Args:
        path: Of the file itself, which for an upload is not what the client called it.
        source: How it is shown images, where the file does not say.
        task: What it will be asked about; None where nobody knows yet.
        input_size: Pixels it is asked at, where the request has a word of its own.
        embeds: Whether what it makes of images is wanted, whose answers a head is put on, and not its own answers.
        field: Of the request that names the file.
    """
    graph = read_graph(path, field=field)
    session = _session(graph, field)
    port = session.get_inputs()[0]
    whole = port.type == "tensor(uint8)"
    shown = said(source, input_size).over(in_file(graph.texts, field, whole=whole))
    taken = _taken(port, shown, task, field)
    in_chans = taken.in_chans or (task.in_chans if task else len(shown.mean or ()) or 3)
    hw = _size(taken, shown, task, field)
    if whole and shown.scale is None:
        shown = in_whole_numbers(shown)
    mean, std = (_channels(values, each, in_chans, name) for values, each, name in (
        (shown.mean, 0.0, "mean"), (shown.std, 1 / (shown.scale or 1), "std"))
    )  # fmt: skip
    sizes = (in_chans, *(hw or _tried_at(task)))
    network = _network(graph, session, taken, shown, None if embeds else task, sizes, embeds=embeds, field=field)
    teacher = ImageTeacher(
        name=source.path.name if isinstance(source, LocalTeacher) else "the ONNX network",
        model=network.eval(),
        num_classes=network.num_classes,
        in_chans=in_chans,
        mean=mean,
        std=std,
        input_hw=hw,
        sha256=hashlib.sha256(graph.content).hexdigest(),
        namings=_namings(shown, network.num_classes, bool(source.class_names)),
        size_known=True,
    )
    return LoadedOnnx(teacher, normalised=whole or shown.mean is not None or shown.std is not None)


def _session(graph: Graph, field: str) -> Any:
    try:
        return session_of(graph.content)
    except Exception as error:  # the runtime raises a dozen kinds of its own
        sets = ", ".join(f"{each.domain or 'ai.onnx'} {each.version}" for each in graph.model.opset_import)
        raise TeacherError(
            f"ONNX Runtime cannot run the graph (operator sets {sets[:200]}): {told(error)}; export it with an older "
            "opset_version, or with standard operators alone",
            field=field,
        ) from None


def _taken(port: Any, shown: Shown, task: ImageTask | None, field: str) -> _Taken:
    """What the graph takes, by its own declaration and by what is said."""
    if port.type not in _KINDS:
        raise TeacherError(
            f"the graph's input {port.name!r:.80} is a {port.type}, and images are float, float16, double or uint8; "
            "export it with such an input",
            field=field,
        )
    if len(port.shape) not in (2, 4):
        raise TeacherError(
            f"the graph's input {port.name!r:.80} has {len(port.shape) or 'no'} dimensions; images have four (a batch "
            "of channels, height and width), or two where their pixels stand in a row",
            field=field,
        )
    batch, *sizes = (size if isinstance(size, int) and size > 0 else None for size in port.shape)
    layout = _layout(sizes, shown, field) if len(sizes) == 3 else "flat"
    intake = Intake(port.name, layout, np.dtype(_KINDS[port.type]), batch)
    if layout == "flat":
        return _flat(intake, sizes[0], task, field)
    channels, height, width = sizes if layout == "nchw" else (sizes[2], sizes[0], sizes[1])
    for size, most in ((channels, MOST_CHANNELS), (height, LARGEST_SIDE), (width, LARGEST_SIDE)):
        if size is not None and size > most:
            raise TeacherError(
                f"the graph takes {port.shape[1:]} numbers an image ({layout}), more than the {most} of any image in "
                "one of them; say teacher.layout if it is the other",
                field=field,
            )
    return _Taken(intake, channels, height, width)


def _flat(intake: Intake, numbers: int | None, task: ImageTask | None, field: str) -> _Taken:
    """A row of numbers an image has to be as long as the data's images are."""
    if task is None:
        raise TeacherError(
            "the graph takes a row of numbers, and how many pixels that is only data tell; name data with it",
            field=field,
        )
    here = task.in_chans * task.height * task.width
    if numbers is not None and numbers != here:
        raise TeacherError(
            f"the graph takes {numbers} numbers an image, the data's images have {here} "
            f"({task.height}×{task.width} pixels of {task.in_chans} channels); make the data of that size",
            field=field,
        )
    return _Taken(intake, task.in_chans, task.height, task.width)


def _layout(sizes: Sequence[int | None], shown: Shown, field: str) -> str:
    """Where the channels stand: where few stand, and not many."""
    if shown.layout is not None:
        return shown.layout
    first, last = (size in (1, 2, 3, 4) for size in (sizes[0], sizes[2]))
    if first == last:
        raise TeacherError(
            f"the graph takes {_listed(sizes)} numbers an image, which does not tell where the channels stand; say "
            "teacher.layout, nchw or nhwc",
            field=field,
        )
    return "nchw" if first else "nhwc"


def _size(taken: _Taken, shown: Shown, task: ImageTask | None, field: str) -> tuple[int, int] | None:
    """Height and width it is asked at; None where any will do and nobody said one."""
    if taken.height is None or taken.width is None:
        return shown.input_hw
    built = (taken.height, taken.width)
    if shown.input_hw not in (None, built):
        raise TeacherError(f"the graph is built for {built[0]}×{built[1]} pixels alone", field="teacher.input_size")
    return built


def _tried_at(task: ImageTask | None) -> tuple[int, int]:
    return (task.height, task.width) if task else (_SIDE, _SIDE)


def _network(
    graph: Graph,
    session: Any,
    taken: _Taken,
    shown: Shown,
    task: ImageTask | None,
    sizes: tuple[int, int, int],
    *,
    embeds: bool,
    field: str,
) -> OnnxNetwork:
    ports = [port for port in session.get_outputs() if port.type in _ANSWERS]
    if not ports:
        has = ", ".join(port.type for port in session.get_outputs())
        raise TeacherError(
            f"the graph answers with {has[:200]}, and answers are floats, a row of them an image; of scikit-learn's "
            "networks export them with options={'zipmap': False}",
            field=field,
        )
    names = [port.name for port in ports]

    def run(feed: dict[str, Array]) -> list[Array]:
        found: list[Array] = session.run(names, feed)
        return found

    unit = 255 if taken.intake.kind.kind == "u" else shown.scale or 1
    intake, outputs = tried(run, names, taken.intake, unit, sizes, field)
    if embeds:
        found = embedding_of(names, outputs, intake.layout)
    else:
        found = answers_of(graph, names, outputs, shown, task, intake.layout, field)
    return OnnxNetwork(
        guarded(run, names, intake.array(torch.zeros(1, *sizes)).shape[1:], outputs, field),
        intake,
        answer=found.answer,
        width=found.width,
        meaning=found.meaning,
        stages=found.stages,
        in_chans=sizes[0],
        height=sizes[1],
        count=lambda feed, examples: (costs.params(graph), costs.macs(graph, feed, examples)),
    )


def _channels(values: tuple[float, ...] | None, usual: float, in_chans: int, name: str) -> tuple[float, ...]:
    """One value a channel; one alone is every channel's."""
    found = values or (usual,)
    found = found * in_chans if len(found) == 1 else found
    if len(found) != in_chans:
        detail = f"{len(found)} values for {in_chans} channels; say one a channel, which goes before the file's own"
        raise TeacherError(detail, field=f"teacher.{name}")
    return found


def _namings(shown: Shown, count: int, given: bool) -> tuple[tuple[str, ...], ...]:
    """What its answers are called; of another length a list is refused where a request has it, left where a file."""
    if not shown.class_names or len(shown.class_names) == count:
        return (shown.class_names,) if shown.class_names else ()
    if given:
        raise TeacherError(f"{len(shown.class_names)} names for {count} answers", field="teacher.class_names")
    return ()


def _listed(sizes: Sequence[int | None]) -> str:
    return "×".join("?" if size is None else str(size) for size in sizes)
