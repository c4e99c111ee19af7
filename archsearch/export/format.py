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

from archsearch import domains
from archsearch.data.batches import Alive, effort, fitting, unasked
from archsearch.device import where
from archsearch.domains.images.task import ImageTask
from archsearch.registry import Registry

if TYPE_CHECKING:
    from torch import nn

_MOST_AT_ONCE = 64
# Pixels N×H×W×C, as files of images hold them: whoever passes floats, or another order, is told so by the runtime, and
# nobody can forget to normalise, or do it twice. What it takes is in the graph.
Images = npt.NDArray[np.uint8]
# What a domain's formats take: images, or tokens.
Examples = npt.NDArray[Any]
# From examples, batch first, to logits B×K.
Answer = Callable[[Examples], npt.NDArray[np.floating[Any]]]
# Images that go to a format by way of a file, at most.
_PHOTOS = 32


@dataclass(frozen=True)
class Subject:
    """What every format is made of; what several need is made once.

    Attributes:
        student: In eval mode, fp32, on the CPU.
        examples: What it did not learn from, as files hold it.
        folder: For what is only needed on the way; the formats are written there too, until they are known to agree.
        alive: Called between two batches; it may raise.
    """

    student: nn.Module
    task: Any
    examples: Examples
    folder: Path
    alive: Alive = unasked

    @cached_property
    def batch(self) -> int:
        """Images the student, in whatever form, is asked about at once: what one takes tells."""
        answer, example = domains.of(self.task).reference(self.student, self.task), self.examples[:1]
        return fitting(effort(lambda: answer(example)), _MOST_AT_ONCE)

    @cached_property
    def program(self) -> Any:
        """The student as `torch.export` traces it."""
        return trace(self.student, self.task)

    @cached_property
    def photos(self) -> dict[int, Path]:
        """Some of the images as files, by their rows; none where no file of an image has as many channels."""
        if self.task.in_chans not in (1, 3):
            return {}
        rows = np.linspace(0, len(self.examples) - 1, min(_PHOTOS, len(self.examples))).round().astype(int)
        return {int(row): _save_png(self.examples[row], self.folder / f"photo{row}.png") for row in rows}


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
        settings: What the file itself says of how files become its examples, and answers names.
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
    settings: Callable[[Path], Mapping[str, Any]]


# The files of formats/ that register one, each under its own name; a new file goes in here, too.
FILES = ("int8", "onnx", "pt2")
formats: Registry[Format] = Registry("format", "archsearch.export.formats", FILES)


def answer_all(answer: Answer, examples: Examples, batch: int, alive: Alive = unasked) -> npt.NDArray[np.floating[Any]]:
    """Logits N×K of many examples, `batch` at a time; `alive` is called between two batches."""
    found = []
    for start in range(0, len(examples), batch):
        found.append(answer(examples[start : start + batch]))
        alive()
    return np.concatenate(found)


def reference(student: nn.Module, task: ImageTask) -> Answer:
    """The student itself as something that answers, which every format is held against."""
    import torch

    from archsearch.domains.images.normalise import normalise

    @torch.inference_mode()
    def answer(images_BHWC: Images) -> Any:
        x_BCHW = torch.from_numpy(np.ascontiguousarray(images_BHWC.transpose(0, 3, 1, 2))).float() / 255
        return student(normalise(x_BCHW.to(where(student)), task.mean, task.std)).cpu().numpy()

    return answer


def trace(student: nn.Module, task: ImageTask) -> Any:
    """The program of `torch.export` for a student as it answers, for batches of any size, B×H×W×C in uint8."""
    import torch

    model = _shipped(copy.deepcopy(student).cpu().float().to(memory_format=torch.contiguous_format).eval(), task)
    images = torch.zeros(2, task.height, task.width, task.in_chans, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    for node in program.graph.nodes:
        # The lines of source that made each node, with this machine's folders in their names: nobody else's business.
        node.meta.pop("stack_trace", None)
    return program


def _shipped(student: nn.Module, task: ImageTask) -> nn.Module:
    """The student with its normalisation before it, the way `teachers.normalise` does it."""
    import torch
    from torch import Tensor, nn

    class Shipped(nn.Module):
        mean_1C11: Tensor
        std_1C11: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.student = student
            for name, values in (("mean_1C11", task.mean), ("std_1C11", task.std)):
                self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

        def forward(self, images: Tensor) -> Tensor:
            x_BCHW = images.permute(0, 3, 1, 2).contiguous().float() / 255
            logits_BK: Tensor = self.student((x_BCHW - self.mean_1C11) / self.std_1C11)
            return logits_BK

    return Shipped().eval()


def _save_png(image_HWC: Images, path: Path) -> Path:
    from PIL import Image

    Image.fromarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC).save(path)
    return path


def needs_onnx() -> str | None:
    """Why ONNX cannot be written here, and run, which it is once before it is shipped; None where it can."""
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed: pip install 'archsearch[onnx]'"
