from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from benchmarks.large import CLASSES, Waits, held, make, session_of


def test_images_of_every_class_are_made_once_each(tmp_path: Path) -> None:
    make(tmp_path, {"train": 3 * CLASSES + 1, "val": CLASSES}, 16)
    counts = [len(list(folder.iterdir())) for folder in sorted((tmp_path / "train").iterdir())]
    assert sorted(counts) == [3] * (CLASSES - 1) + [4]
    assert len({path.read_bytes() for path in tmp_path.rglob("*.jpg")}) == 4 * CLASSES + 1
    with Image.open(tmp_path / "val" / "class3" / "0000003.jpg") as image:
        assert (image.size, image.format) == ((16, 16), "JPEG")


def test_what_steps_wait_for_and_what_a_process_holds_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def batches() -> Iterator[SimpleNamespace]:
        yield from (SimpleNamespace(row_B=range(4)) for _ in range(3))

    assert len(list(Waits().of(batches(), 5, 9))) == 3
    *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (last["step"], last["shown"], last["resumed_at"], last["steps"]) == (8, 12, 5, 9)
    assert 0 <= last["waited_s"] <= last["wall_s"]
    assert os.getpid() in session_of(os.getsid(0))
    assert held(os.getpid())[1] > 2**20
