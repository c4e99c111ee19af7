"""A smoke of each benchmark that computes on a GPU: what it measures is nothing, that it runs is what counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SMALL = {
    "scoring_speed": ["--device", "cuda", "--networks", "2", "--repeats", "1"],
    "distill_speed": ["--device", "cuda", "--pairs", "56:20", "--batches", "64", "--steps", "4", "--warmup", "2",
                      "--rounds", "1", "--workers", "2", "--no-peers"],
    "latency": ["--devices", "cuda-torch,cuda-graph", "--spaces", "resnet_cifar", "--only", "here"],
    "startup": ["--repeats", "1"],
}  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name: str, tmp_path: Path) -> None:
    said = tmp_path / "said.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name], "--json", str(said)]
    found = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert found.returncode == 0, f"{found.stdout[-3000:]}\n{found.stderr[-3000:]}"
    assert json.loads(said.read_text())
