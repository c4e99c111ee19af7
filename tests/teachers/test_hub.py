from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from archsearch.teachers import (
    Teacher,
)

ROOT = Path(__file__).parents[2]


class Bomb:
    """Pickled, it leaves a file behind whoever unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


HUB = """
import json, sys
from archsearch.errors import ArchsearchError
from archsearch.request import TimmTeacher
from archsearch.teachers import load_teacher

answers = {}
for name in sys.argv[1:]:
    try:
        answers[name] = load_teacher(TimmTeacher(name=name)).sha256
    except ArchsearchError as error:
        answers[name] = [type(error).__name__, str(error)]
print(json.dumps(answers))
"""


def cached_repository(cache: Path, name: str, files: dict[str, bytes], revision: str = "5" * 40) -> None:
    """A repository as the hub's own client leaves it in its cache."""
    folder = cache / f"models--me--{name}"
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    for file, content in files.items():
        (snapshot / file).write_bytes(content)


@pytest.fixture(scope="module")
def hub(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `load_teacher` says to each of several repositories, in a process whose hub is a folder."""
    cache = tmp_path_factory.mktemp("hub")
    config = (teacher_folder / "config.json").read_bytes()
    weights = (teacher_folder / "model.safetensors").read_bytes()
    trap = cache / "sprung"
    torch.save({"bomb": Bomb(trap)}, cache / "bomb")
    bomb = (cache / "bomb").read_bytes()
    detour = json.loads(config)
    detour["pretrained_cfg"]["hf_hub_filename"] = "evil.bin"
    cached_repository(cache, "good", {"config.json": config, "model.safetensors": weights})
    cached_repository(cache, "pickled", {"config.json": config, "pytorch_model.bin": bomb})
    both = {"config.json": json.dumps(detour).encode(), "model.safetensors": weights, "evil.bin": bomb}
    cached_repository(cache, "detour", both)
    names = ["hf-hub:me/good", f"hf-hub:me/good@{'5' * 40}", "hf-hub:me/pickled", "hf-hub:me/detour", "hf-hub:me/none"]
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", HUB, *names]
    answer = subprocess.run(command, env=environment, cwd=ROOT, text=True, capture_output=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert not trap.exists()
    return json.loads(answer.stdout)


def test_a_hub_repository_with_safetensors_loads(hub: dict[str, Any], teacher: Teacher) -> None:
    assert hub["hf-hub:me/good"] == teacher.sha256
    assert hub[f"hf-hub:me/good@{'5' * 40}"] == teacher.sha256


def test_a_hub_repository_with_only_pickled_weights_is_refused(hub: dict[str, Any]) -> None:
    kind, detail = hub["hf-hub:me/pickled"]
    assert kind == "TeacherError"
    assert "no model.safetensors to be had" in detail


def test_a_hub_repository_that_points_past_its_safetensors_is_refused(hub: dict[str, Any]) -> None:
    kind, detail = hub["hf-hub:me/detour"]
    assert kind == "TeacherError"
    assert "hf_hub_filename; only model.safetensors is read" in detail


def test_a_repository_that_is_not_there_is_a_teacher_error(hub: dict[str, Any]) -> None:
    assert hub["hf-hub:me/none"][0] == "TeacherError"
