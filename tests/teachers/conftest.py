from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from archsearch.request import UploadedTeacher
from archsearch.teachers import (
    describe_folder,
)


@pytest.fixture
def source(teacher_folder: Path) -> UploadedTeacher:
    return UploadedTeacher.model_validate({"upload": "up_0123456789", **describe_folder(teacher_folder)})


@pytest.fixture
def weights(teacher_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(teacher_folder / "model.safetensors")
