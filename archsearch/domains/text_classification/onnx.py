"""An encoder as ONNX, with the inputs every user of the transformers library knows, and the same in int8."""

# B batch, T tokens, K classes

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from archsearch.errors import ExportError
from archsearch.evaluate import likeness
from archsearch.export.files import INT8, ONNX
from archsearch.export.format import Answer, Format, Subject, answer_all, needs_onnx
from archsearch.export.formats.onnx import forget_origin

# In this order; the last only where the family is told which of two texts a token is of.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def write_onnx(student: Any, path: Path) -> None:
    """Write a student as ONNX in fp32: ids, mask and segments B×T to `logits` B×K, for any batch and length."""
    import copy

    import onnx
    import torch

    network = copy.deepcopy(student.network).cpu().eval()
    positions = student.family.positions(student.config.to_dict())
    names = INPUTS if student.family.segments else INPUTS[:2]

    class Shipped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: Any) -> Any:
            return self.network(**dict(zip(names, inputs, strict=True))).logits

    ids_BT = torch.ones(2, 7, dtype=torch.int64)
    mask_BT = ids_BT.clone()
    mask_BT[1, 4:] = 0  # or the library would leave the mask out of the graph
    inputs = (ids_BT, mask_BT, torch.zeros_like(ids_BT))[: len(names)]
    sizes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("length", min=2, max=positions)}
    with torch.no_grad():
        program = torch.export.export(Shipped().eval(), inputs, dynamic_shapes=(tuple(sizes for _ in names),))
    exported = torch.onnx.export(program, dynamo=True, input_names=list(names), output_names=["logits"], verbose=False)
    assert exported is not None  # only without dynamo
    model = exported.model_proto
    forget_origin(model, ("batch", "length"))
    _say_labels(model, student)
    onnx.save(model, str(path))


def open_onnx(path: Path, threads: int) -> Answer:
    """An ONNX file as something that answers B×2×T."""
    from archsearch.hardware.onnx_runtime import open_session

    session = open_session(path, threads, spin=False)
    wanted = {each.name for each in session.get_inputs()}

    def answer(x_B2T: npt.NDArray[Any]) -> Any:
        return session.run(None, {name: value for name, value in feeds(x_B2T).items() if name in wanted})[0]

    return answer


def feeds(x_B2T: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.int64]]:
    """What an ONNX file is fed with, by name."""
    segment_BT = np.asarray(x_B2T[:, 1], np.int64)
    return {
        "input_ids": np.ascontiguousarray(x_B2T[:, 0], np.int64),
        "attention_mask": (segment_BT >= 0).astype(np.int64),
        "token_type_ids": np.maximum(segment_BT, 0),
    }


def read_labels(path: Path) -> dict[str, Any]:
    """What a file's metadata say of its answers."""
    import onnx

    texts = {prop.key: prop.value for prop in onnx.load(str(path), load_external_data=False).metadata_props}
    return {name: json.loads(text) for name, text in texts.items()}


def _say_labels(model: Any, student: Any) -> None:
    import onnx

    names: Mapping[int, str] = student.config.id2label
    labels = [names[number] for number in sorted(names)]
    onnx.helper.set_model_props(model, {"labels": json.dumps(labels, ensure_ascii=False)})


def _write(subject: Subject, path: Path) -> Mapping[str, Any]:
    path.write_bytes(_traced(subject).read_bytes())
    return {}


def _traced(subject: Subject) -> Path:
    """The student's ONNX file, written once: quantisation starts from it, too."""
    path = subject.folder / "traced.onnx"
    if not path.is_file():
        write_onnx(subject.student, path)
    return path


def _write_int8(subject: Subject, path: Path) -> Mapping[str, Any]:
    """Weights in int8, activations scaled as they come (dynamic quantisation): no texts are needed for it."""
    import onnx

    from archsearch.hardware.onnx_runtime import quantise_as_it_comes

    quantise_as_it_comes(_traced(subject), path)
    small = onnx.load(str(path))
    del small.metadata_props[:]  # the quantiser's own
    _say_labels(small, subject.student)
    onnx.save(small, str(path))
    expected_NK = answer_all(open_onnx(_traced(subject), 1), subject.examples, subject.batch, subject.alive)
    like = likeness(
        expected_NK, answer_all(open_onnx(path, 1), subject.examples, subject.batch, subject.alive), subject.task.kind
    )
    if not np.isfinite(like.kl):
        raise ExportError(f"{INT8} answers held-out texts with what is no number")
    return {"quantisation": "dynamic", "kl": like.kl, "agreement": like.agreement, "judged_on": len(subject.examples)}


FORMATS = (
    Format(
        name="int8",
        file=INT8,
        doc="ONNX with weights in int8, activations scaled as they come (dynamic), for ONNX Runtime.",
        exact=False,
        needs_images=False,
        own_threads=True,
        unavailable=needs_onnx,
        write=_write_int8,
        open=open_onnx,
        settings=read_labels,
    ),
    Format(
        name="onnx",
        file=ONNX,
        doc="ONNX in fp32: input_ids, attention_mask and token_type_ids, for ONNX Runtime and whatever else reads it.",
        exact=True,
        needs_images=False,
        own_threads=True,
        unavailable=needs_onnx,
        write=_write,
        open=open_onnx,
        settings=read_labels,
    ),
)
