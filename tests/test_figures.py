"""Figures of fixed seeds stay what they are, to the bit, however the code that makes them is arranged.

    python -m tests.test_figures

writes those of this tree to `figures.json`; do so only where a change is meant to move them, and say why. Bits depend
on PyTorch and the processor, which are kept beside them: elsewhere scores are only close, and hashes are not compared.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archsearch
from archsearch.domains.images import load_digits

FIGURES = Path(__file__).with_name("figures.json")
FAMILIES = ("resnet_cifar", "resnet", "convnext", "mobilenet", "regnet", "vit")
# Of two machines; measured between one and two threads on one.
CLOSE = 1e-3


class Stop(Exception):
    """Stands for a crash."""


def measure(folder: Path) -> dict[str, Any]:
    """Seven networks of each family scored, three students distilled, one search verified, one training resumed."""
    data = {"kind": "npz", "path": str(larger_digits(folder / "digits.npz"))}
    teacher = folder / "teacher"
    spec = {"epochs": 3, "batch_size": 64, "augment": "none", "precision": "fp32", "device": "cpu"}
    model_args = {"depths": [1, 1, 1], "widths": [16, 24, 32]}
    archsearch.train_teacher(data, teacher, model_args=model_args, spec=spec)
    common = {
        "teacher": {"kind": "local", "path": str(teacher)},
        "data": data,
        # Nothing but the parameters is limited, as when these were written; else the teacher's own costs would be.
        "budget": {"params": 400_000, "macs": 10**13, "size_bytes": 10**12, "peak_activation_bytes": 10**12},
        "search": {"candidates": 7, "batch_size": 32, "sampler": "random", "precision": "fp32", "seed": 3},
    }
    figures: dict[str, Any] = {"teacher": sha256(teacher / "model.safetensors"), "scores": {}, "students": {}}
    for space in FAMILIES:
        body = {**common, "kind": "search", "search": {**common["search"], "space": space}}
        archsearch.run(body, folder / space, listener=lambda _: None)
        lines = (folder / space / "candidates.jsonl").read_text().splitlines()
        figures["scores"][space] = [json.loads(line)["score"] for line in lines]
    for method in ("kd", "crd", "auto"):
        figures["students"][method] = distilled(folder, common, method)
    out = folder / "verified"
    verify = {"candidates": 2, "epochs": 1}
    body = {**common, "search": {**common["search"], "space": "resnet_cifar"}, "verify": verify, "distill": spec}
    figures["verified"] = [row["selection_acc"] for row in archsearch.run(body, out)["verify"]["candidates"]]
    figures["resumed"] = distilled(folder, common, "crd", stop=True)
    return figures


def larger_digits(path: Path) -> Path:
    """Every pixel sixteen times: ConvNeXt takes nothing smaller than 32×32."""
    digits = load_digits()
    splits = {"train": digits.train, "selection": digits.selection, "test": digits.test}
    arrays = {}
    for name, split in splits.items():
        arrays |= {f"x_{name}": split.x_NHWC.repeat(4, 1).repeat(4, 2)[:384], f"y_{name}": split.y_N[:384]}
    np.savez(path, **arrays)
    return path


def distilled(folder: Path, common: dict[str, Any], method: str, *, stop: bool = False) -> str:
    """The hash of a student of fixed architecture."""
    out = folder / f"{method}-{stop}"
    small = {"depth1": 1, "depth2": 1, "depth3": 1, "width1": 8, "width2": 16, "width3": 16}
    body = {
        **common, "kind": "distill", "student": {"space": "resnet_cifar", "architecture": small},
        "distill": {"method": method, "epochs": 2, "batch_size": 64, "precision": "fp32", "device": "cpu"},
    }  # fmt: skip

    def listen(report: dict[str, Any]) -> None:
        if stop and report["phase"] == "distilling" and report.get("epoch") == 1:
            raise Stop

    if stop:
        with pytest.raises(Stop):
            archsearch.run(body, out, listener=listen)
    archsearch.run(body, out, listener=lambda _: None)
    return sha256(out / "model.safetensors")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def machine() -> dict[str, str]:
    """What bits depend on."""
    import torch

    return {
        "torch": torch.__version__.partition("+")[0],
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


@pytest.mark.slow
def test_figures_are_what_they_were(tmp_path: Path) -> None:
    kept, found = json.loads(FIGURES.read_text()), measure(tmp_path)
    assert found["resumed"] == found["students"]["crd"]
    for space, scores in kept["figures"]["scores"].items():
        assert found["scores"][space] == pytest.approx(scores, rel=CLOSE), space
    if machine() == kept["machine"]:
        assert found == kept["figures"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        kept = {"machine": machine(), "figures": measure(Path(scratch))}
    FIGURES.write_text(json.dumps(kept, indent=2) + "\n")
