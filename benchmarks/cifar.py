"""CIFAR as the benchmarks use it, and the trained teacher they share, made once and kept by hash."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from archsearch.data import Dataset
from archsearch.domains.images import load_npz
from archsearch.request import LocalTeacher
from archsearch.settings import user_cache
from archsearch.teachers import Teacher, load_teacher
from archsearch.teaching import train_teacher

FILES = {10: "cifar10_3k.npz", 100: "cifar100_12k.npz"}
# ResNet-56 is the teacher of half the field's CIFAR tables; on 10,000 images a network half as deep and twice as wide
# knows more. Forty and sixty epochs are what two cores allow.
TEACHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "resnet56": (
        {"depths": [9, 9, 9], "widths": [16, 32, 64]},
        {"epochs": 40, "batch_size": 64, "augment": "crop_flip"},
    ),
    "resnet20x2": (
        {"depths": [3, 3, 3], "widths": [32, 64, 128]},
        {"epochs": 60, "batch_size": 64, "augment": "crop_flip"},
    ),
}


def load_cifar(folder: Path, classes: int) -> Dataset:
    """CIFAR-10 or CIFAR-100 of `../shared/data`; images are stored there as differences along the width."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / f"cifar{classes}.npz"
        decode(folder, classes, path)
        return load_npz(path)


def load_teacher_for(folder: Path, classes: int = 100, name: str = "resnet56") -> Teacher:
    """A network trained on a subset of CIFAR; trained on first use and kept in the cache folder by hash."""
    identity = json.dumps([*TEACHERS[name], _sha256(folder / FILES[classes])])
    home = user_cache() / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if not (home / "config.json").is_file():
        _train(folder, classes, home, *TEACHERS[name])
    return load_teacher(LocalTeacher(path=home))


def _train(folder: Path, classes: int, home: Path, model_args: dict[str, Any], spec: dict[str, Any]) -> None:
    def show(report: dict[str, Any]) -> None:
        if report["selection_acc"] is not None:
            line = f"teacher: epoch {report['epoch']}/{report['epochs']}, {report['selection_acc']:.1f} %"
            print(line, file=sys.stderr)

    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / f"cifar{classes}.npz"
        decode(folder, classes, data)
        source = {"kind": "npz", "path": data}
        result = train_teacher(source, home, model_args=model_args, spec=spec, listener=show)
    (home / "training.json").write_text(json.dumps(result, indent=2) + "\n")


def decode(folder: Path, classes: int, path: Path) -> None:
    """Write the stored differences as a plain npz of images."""
    stored = np.load(folder / FILES[classes])
    arrays = {}
    for split in ("train", "test"):
        x_NHWC = np.cumsum(stored[f"x_{split}_delta"], axis=2, dtype=np.uint8)
        x_NHWC[..., [0, 2]] += x_NHWC[..., 1:2]
        arrays |= {f"x_{split}": x_NHWC, f"y_{split}": stored[f"y_{split}"]}
    np.savez(path, **arrays)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
