"""`student.pt2`: a program of `torch.export`, which torch alone loads and runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.domains.images.preprocessing import Preprocessing
from archsearch.domains.images.task import ImageTask
from archsearch.export.files import PREPROCESSING, PT2
from archsearch.export.format import Answer, Format, Images, Subject, formats, trace

if TYPE_CHECKING:
    from torch import nn


def save_pt2(student: nn.Module, task: ImageTask, path: Path) -> None:
    """Write the student as a program of `torch.export`, which torch alone loads and runs, for batches of any size."""
    _save(trace(student, task), task, path)


def _save(program: Any, task: ImageTask, path: Path) -> None:
    import torch

    torch.export.save(program, path, extra_files={PREPROCESSING: json.dumps(Preprocessing.of(task).fields())})


def _write(subject: Subject, path: Path) -> Mapping[str, Any]:
    _save(subject.program, subject.task, path)
    return {}


def _open(path: Path, threads: int) -> Answer:
    import torch

    model = torch.export.load(path).module()

    @torch.inference_mode()
    def answer(images_BHWC: Images) -> Any:
        return model(torch.from_numpy(np.ascontiguousarray(images_BHWC))).numpy()

    return answer


def _settings(path: Path) -> dict[str, Any]:
    import torch

    extra = {PREPROCESSING: ""}
    torch.export.load(path, extra_files=extra)
    settings: dict[str, Any] = json.loads(extra[PREPROCESSING] or "{}")
    return settings


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
        settings=_settings,
    ),
)
