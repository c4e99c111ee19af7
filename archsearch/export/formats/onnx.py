"""`student.onnx`: fp32, `images` B×H×W×C in uint8 to `logits` B×K; it normalises by itself and knows its labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.domains.images.preprocessing import Preprocessing
from archsearch.domains.images.task import ImageTask
from archsearch.export.files import ONNX
from archsearch.export.format import Answer, Format, Images, Subject, formats, needs_onnx, trace

if TYPE_CHECKING:
    from torch import nn


def save_onnx(student: nn.Module, task: ImageTask, path: Path) -> None:
    """Write the student as ONNX in fp32: `images` B×H×W×C in uint8 to `logits` B×K, for batches of any size."""
    write_onnx(trace(student, task), task, path)


def traced(subject: Subject) -> Path:
    """The student's ONNX file, written once: quantisation starts from it, too."""
    path = subject.folder / "traced.onnx"
    if not path.is_file():
        write_onnx(subject.program, subject.task, path)
    return path


def write_onnx(program: Any, task: ImageTask, path: Path) -> None:
    """Write what `torch.export` traced as ONNX, with what it takes to read photos for it in its metadata."""
    import onnx
    import torch

    exported = torch.onnx.export(program, dynamo=True, input_names=["images"], output_names=["logits"], verbose=False)
    assert exported is not None  # only without dynamo
    model = exported.model_proto
    forget_origin(model, ("batch",))
    say_reading(model, task)
    onnx.save(model, str(path))


def say_reading(model: Any, task: ImageTask) -> None:
    """Put every field of the preprocessing into a model's metadata, as JSON."""
    import onnx

    onnx.helper.set_model_props(model, Preprocessing.of(task).texts())


def read_reading(path: Path) -> dict[str, Any]:
    """What a file's metadata say of its preprocessing; empty for one that says nothing."""
    import onnx

    texts = {prop.key: prop.value for prop in onnx.load(str(path), load_external_data=False).metadata_props}
    return {name: json.loads(text) for name, text in texts.items()}


def open_onnx(path: Path, threads: int) -> Answer:
    """An ONNX file as something that answers."""
    from archsearch.hardware.onnx_runtime import open_session

    session = open_session(path, threads, spin=False)

    def answer(images_BHWC: Images) -> Any:
        return session.run(None, {"images": images_BHWC})[0]

    return answer


def forget_origin(model: Any, names: Sequence[str]) -> None:
    """Drop what the exporter notes for its own debugging, a fifth of a small file; call the first sizes by `names`."""
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    for noted in (model, graph, *graph.node, *graph.initializer, *values):
        del noted.metadata_props[:]
    first = [dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim[: len(names)]]
    for size in _sizes(values):
        for known, name in zip(first, names, strict=True):
            size.dim_param = re.sub(rf"\b{re.escape(known)}\b", name, size.dim_param)


def _sizes(values: list[Any]) -> Iterator[Any]:
    return (size for value in values for size in value.type.tensor_type.shape.dim if size.dim_param)


def _write(subject: Subject, path: Path) -> Mapping[str, Any]:
    path.write_bytes(traced(subject).read_bytes())
    return {}


formats.add(
    "onnx",
    Format(
        name="onnx",
        file=ONNX,
        doc="ONNX in fp32, for ONNX Runtime and whatever else reads it.",
        exact=True,
        needs_images=False,
        own_threads=True,
        unavailable=needs_onnx,
        write=_write,
        open=open_onnx,
        settings=read_reading,
    ),
)
