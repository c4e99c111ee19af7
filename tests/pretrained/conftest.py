"""Networks with weights in folders: one that knows digits, the same from noise, and one of timm's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from archsearch.data import Dataset
from archsearch.domains.images.task import ImageTask
from archsearch.export.folder import save_student
from archsearch.pretrained import Shelf, make_ready
from archsearch.pretrained.stored import in_folder
from archsearch.teachers import Teacher, build
from archsearch.teaching import train_teacher

SMALL = {"depths": [1, 1, 1], "widths": [8, 12, 16]}


@pytest.fixture(scope="session")
def networks(gray_task: ImageTask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ARCHSEARCH_PRETRAINED_DIR` may be: folders `knows`, `noise`, `stock` and `vit`, and what is no network."""
    folder = tmp_path_factory.mktemp("networks")
    spec = {"epochs": 3, "batch_size": 64, "augment": "none"}
    train_teacher({"kind": "digits"}, folder / "knows", model_args=SMALL, spec=spec)
    torch.manual_seed(1)
    args = {"num_classes": 10, "in_chans": 1}
    save_student(build("cifar_resnet", {**args, **SMALL}), gray_task, folder / "noise")
    # Of another number of classes and channels, as networks that people have are.
    colour = replace(gray_task, classes=7, in_chans=3, mean=(0.5, 0.4, 0.3), std=(0.2,) * 3, height=32, width=32)
    save_student(timm.create_model("test_resnet", num_classes=7), colour, folder / "stock")
    # Whose patches are larger than digits.
    save_student(timm.create_model("test_vit3", num_classes=7, img_size=32), colour, folder / "vit")
    (folder / "empty").mkdir()
    (folder / ".hidden").mkdir()
    (folder / "notes.txt").write_text("no network")
    return folder


@pytest.fixture(scope="session")
def shelf(networks: Path, teacher: Teacher, digits: Dataset) -> Shelf:
    return make_ready(in_folder(networks), teacher, digits)
