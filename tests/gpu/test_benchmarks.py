"""A smoke of each benchmark that computes on a GPU: what it measures is nothing, that it runs is what counts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SMALL = {
    "scoring_speed": "scoring_speed --device cuda --networks 2 --repeats 1",
    "distill_speed": "distill_speed --device cuda --pairs 56:20 --batches 8 --steps 4 --warmup 2 --rounds 1 --no-peers",
    "precision": "distill_speed --device cuda --only precision",
    "latency": "latency --devices cuda-torch,cuda-graph --spaces resnet_cifar --only here",
    "startup": "startup --repeats 1",
    "workers": "workers --workers 2 --candidates 6 --samplers random",
    "large": "large --images 300 --size 32 --minutes 0.1",
    "service": "service --smoke",
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", SMALL)
def test_it_runs(name: str, tmp_path: Path) -> None:
    if name == "service" and shutil.which("wrk") is None:
        pytest.skip("the load generator wrk is not here")
    said, (module, *arguments) = tmp_path / "said.json", SMALL[name].split()
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments, "--json", str(said)]
    found = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert found.returncode == 0, f"{found.stdout[-3000:]}\n{found.stderr[-3000:]}"
    assert json.loads(said.read_text())
