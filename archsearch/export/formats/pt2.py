"""`student.pt2`: a program of `torch.export`, which torch alone loads and runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.data.task import Task
from archsearch.export.files import PT2
from archsearch.export.format import Answer, Format, Images, Subject, formats, trace

if TYPE_CHECKING:
    from torch import nn


def save_pt2(student: nn.Module, task: Task, path: Path) -> None:
    """Write the student as a program of `torch.export`, which torch alone loads and runs, for batches of any size."""
    _save(trace(student, task), path)


def _save(program: Any, path: Path) -> None:
    import torch

    torch.export.save(program, path)


def _write(subject: Subject, path: Path) -> Mapping[str, Any]:
    _save(subject.program, path)
    return {}


def _open(path: Path, threads: int) -> Answer:
    import torch

    model = torch.export.load(path).module()

    @torch.inference_mode()
    def answer(images_BCHW: Images) -> Any:
        return model(torch.from_numpy(images_BCHW)).numpy()

    return answer


formats.add(
    "pt2",
    Format(
        name="pt2",
        file=PT2,
        doc="A program of torch.export, for torch alone.",
        exact=True,
        needs_images=False,
        own_threads=False,
        unavailable=lambda: None,
        write=_write,
        open=_open,
    ),
)
