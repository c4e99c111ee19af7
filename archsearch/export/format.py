"""What a format of the student is: how it is written, how it is run, and what it has to agree to."""

# N images, B batch, C channels, H W space, K classes

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from archsearch.data.batches import effort, fitting
from archsearch.data.task import Task
from archsearch.registry import Registry

if TYPE_CHECKING:
    from torch import nn

Images = npt.NDArray[np.float32]
_MOST_AT_ONCE = 64
# From normalised images B×C×H×W to logits B×K.
Answer = Callable[[Images], npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Subject:
    """What every format is made of; what several need is made once.

    Attributes:
        student: In eval mode, fp32, on the CPU.
        images_NCHW: Normalised images it did not learn from.
        folder: For what is only needed on the way; the formats are written there too, until they are known to agree.
    """

    student: nn.Module
    task: Task
    images_NCHW: Images
    folder: Path

    @cached_property
    def batch(self) -> int:
        """Images the student, in whatever form, is asked about at once: what one takes tells."""
        import torch

        image_1CHW = torch.from_numpy(self.images_NCHW[:1])
        with torch.inference_mode():
            return fitting(effort(lambda: self.student(image_1CHW)), _MOST_AT_ONCE)

    @cached_property
    def program(self) -> Any:
        """The student as `torch.export` traces it."""
        return trace(self.student, self.task)

    @cached_property
    def onnx(self) -> Path:
        """The student's ONNX file, which quantisation starts from."""
        from archsearch.export.formats.onnx import write_onnx

        path = self.folder / "traced.onnx"
        write_onnx(self.program, path)
        return path


@dataclass(frozen=True)
class Format:
    """A form the student is shipped in.

    Attributes:
        doc: What it is and what runs it.
        exact: Whether it has to agree with the fp32 student; what is not exact reports what it loses.
        needs_images: Whether it cannot be made without held-out images.
        unavailable: Why it cannot be made here and what to do about it; None where it can.
        write: Writes the file; returns what there is to say of how it was made, as plain JSON.
        own_threads: Whether it keeps the threads it was opened with; otherwise it follows torch's.
        open: From the file and a number of threads to something that answers.
    """

    name: str
    file: str
    doc: str
    exact: bool
    needs_images: bool
    own_threads: bool
    unavailable: Callable[[], str | None]
    write: Callable[[Subject, Path], Mapping[str, Any]]
    open: Callable[[Path, int], Answer]


formats: Registry[Format] = Registry("format", "archsearch.export.formats")


def answer_all(answer: Answer, images_NCHW: Images, batch: int) -> npt.NDArray[np.floating[Any]]:
    """Logits N×K of many images, `batch` at a time."""
    return np.concatenate([answer(images_NCHW[i : i + batch]) for i in range(0, len(images_NCHW), batch)])


def trace(student: nn.Module, task: Task) -> Any:
    """The program of `torch.export` for a student as it answers, for batches of any size."""
    import torch

    model = copy.deepcopy(student).cpu().float().to(memory_format=torch.contiguous_format).eval()
    images = torch.zeros(2, task.in_chans, task.height, task.width)
    with torch.no_grad():
        program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    for node in program.graph.nodes:
        # The lines of source that made each node, with this machine's folders in their names: nobody else's business.
        node.meta.pop("stack_trace", None)
    return program


def needs_onnx() -> str | None:
    """Why ONNX cannot be written here, and run, which it is once before it is shipped; None where it can."""
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed: pip install 'archsearch[onnx]'"
