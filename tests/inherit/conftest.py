"""A teacher with channels and blocks to spare."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsearch.teaching import train_teacher


@pytest.fixture(scope="session")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `teacher_folder`, three times as deep."""
    folder = tmp_path_factory.mktemp("deep") / "teacher"
    spec = {"epochs": 6, "batch_size": 64, "augment": "none"}
    train_teacher({"kind": "digits"}, folder, model_args={"depths": [3, 3, 3], "widths": [16, 24, 32]}, spec=spec)
    return folder
