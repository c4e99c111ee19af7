from __future__ import annotations

from pathlib import Path

import pytest

from archsearch.domains.images.task import ImageTask
from archsearch.teachers.pretrained import load_pretrained
from benchmarks.imagenet import available, folder_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not available(), reason="none of the packages with ImageNet weights is installed"),
]


def test_weights_become_a_folder_that_timm_loads(tmp_path: Path) -> None:
    name = available()[0]
    folder = folder_of(name, tmp_path)
    assert folder.name == name
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert folder_of(name, tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before, "made once"
    task = ImageTask(10, 3, 64, 64, (0.5,) * 3, (0.25,) * 3)
    found = load_pretrained(str(folder), task, tmp_path / "scratch", input_hw=(64, 64))
    assert (found.mean, found.std) == ((0.5,) * 3, (0.5,) * 3)
    assert float(found.model.bn1.running_var.sub(1).abs().max()) > 1, "a norm that nobody trained counts on 1"
