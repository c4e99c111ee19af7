"""The student as files: a folder timm loads, and a manifest that says how it came to be."""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import json
import platform
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.data.task import Task
from archsearch.spaces import TimmModel

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS, CONFIG, MANIFEST, ARCHIVE = "model.safetensors", "config.json", "manifest.json", "student.zip"
PT2, ONNX = "student.pt2", "student.onnx"
# The student itself; the last two where plain timm does not know its network.
FILES = (WEIGHTS, CONFIG, PT2, ONNX)
MEDIA_TYPES = {
    WEIGHTS: "application/octet-stream",
    CONFIG: "application/json",
    PT2: "application/octet-stream",
    ONNX: "application/octet-stream",
    MANIFEST: "application/json",
    ARCHIVE: "application/zip",
}
_PACKAGES = ("archsearch", "torch", "torchvision", "timm", "optuna", "numpy", "safetensors")


def save_student(student: nn.Module, task: Task, folder: Path) -> None:
    """Write `model.safetensors` and `config.json`, the way `timm.create_model("local-dir:…", pretrained=True)` reads.

    timm would hand down the stock configuration's origin, normalisation and licence; all of that is overwritten, for
    these weights have another story.
    """
    import torch
    from timm.models import save_for_hf

    folder.mkdir(parents=True, exist_ok=True)
    data_config = {
        "input_size": (task.in_chans, task.height, task.width),
        "mean": task.mean,
        "std": task.std,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    config = {
        "pretrained_cfg": {"tag": "archsearch", "license": "other", "num_classes": task.classes, **_NO_ORIGIN},
        "label_names": list(task.class_names) or None,
    }
    # Training leaves the weights channels-last; safetensors keeps plain order only.
    student = student.cpu().to(memory_format=torch.contiguous_format)
    save_for_hf(student, str(folder), model_config=config, safe_serialization=True, data_config=data_config)
    # timm keeps what a stock configuration says of its origin even when told nothing; these weights have none of it.
    path = folder / CONFIG
    written = json.loads(path.read_text())
    kept = {key: value for key, value in written["pretrained_cfg"].items() if key not in _NO_ORIGIN}
    path.write_text(json.dumps({**written, "pretrained_cfg": kept}, indent=2) + "\n")


def load_student(folder: Path | str) -> nn.Module:
    """The student of an exported folder, in eval mode; what plain timm does for stock families."""
    import timm

    import archsearch.models  # noqa: F401  (registers with timm)

    student: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return student.eval()


def load_config(folder: Path | str) -> dict[str, Any]:
    """The folder's `config.json`: architecture, arguments, input size, mean and std."""
    config: dict[str, Any] = json.loads((Path(folder) / CONFIG).read_text())
    return config


def save_pt2(student: nn.Module, task: Task, path: Path) -> None:
    """Write the student as a program of `torch.export`, which torch alone loads and runs, for batches of any size."""
    import torch

    model, images, batch = _traceable(student, task)
    with torch.no_grad():
        torch.export.save(torch.export.export(model, images, dynamic_shapes=batch), path)


def save_onnx(student: nn.Module, task: Task, path: Path) -> None:
    """Write the student as ONNX in fp32: `images` B×C×H×W, normalised, to `logits` B×K, for batches of any size."""
    import torch

    model, images, batch = _traceable(student, task)
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            images,
            dynamo=True,
            dynamic_shapes=batch,
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None  # only without dynamo
    program.save(path)


def _traceable(student: nn.Module, task: Task) -> tuple[nn.Module, tuple[Tensor], Any]:
    """A copy as it answers (eval mode, fp32, on the CPU), a batch to trace it with, and which side of it may vary."""
    import torch

    model = copy.deepcopy(student).cpu().float().to(memory_format=torch.contiguous_format).eval()
    images = torch.zeros(2, task.in_chans, task.height, task.width)
    return model, (images,), ({0: torch.export.Dim("batch", min=1)},)


def save_portable(student: nn.Module, task: Task, folder: Path) -> None:
    """Write the student in forms that need no code of ours: `student.pt2`, and ONNX where its packages are there."""
    save_pt2(student, task, folder / PT2)
    if all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        save_onnx(student, task, folder / ONNX)


def write_manifest(folder: Path, story: Mapping[str, Any], model: TimmModel) -> Path:
    """Write `manifest.json`: what makes the student reproducible, and the machine and versions it was made with."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    needs = (
        "timm"
        if model.stock
        else f"timm and archsearch (`import archsearch.models` names its network to timm); {PT2} needs torch alone"
    )
    manifest = {
        **story,
        "loads_with": needs,
        "versions": {"python": platform.python_version(), **versions},
        "machine": {
            "device": "cpu",
            "processor": platform.processor() or platform.machine(),
            "system": platform.system(),
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest, indent=2, sort_keys=True, default=str) + "\n")
    return path


def pack(folder: Path) -> Path:
    """Put the folder's files into `student.zip` beside them; weights do not compress, so nothing is compressed."""
    archive = folder / ARCHIVE
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        for name in (*FILES, MANIFEST):
            if not (folder / name).is_file():
                continue
            out.write(folder / name, f"student/{name}")
    return archive


_NO_ORIGIN = {
    "url": "", "file": None, "hf_hub_id": None, "hf_hub_filename": None, "paper_ids": None, "paper_name": None,
    "origin_url": None, "notes": None, "description": None, "test_input_size": None, "min_input_size": None,
}  # fmt: skip
