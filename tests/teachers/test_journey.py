"""From a network trained with torchvision alone to a distilled student: two commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn.functional import cross_entropy

from archsearch.cli import app
from archsearch.data import Dataset
from archsearch.domains.images.task import ImageSplit

# B batch, C channels, H W space, N images

torchvision = pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def photos(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as pictures of 32×32 in colour."""
    arrays = {}
    for name in ("train", "selection", "test"):
        split: ImageSplit = getattr(digits, name)
        arrays |= {f"x_{name}": split.x_NHWC.repeat(4, axis=1).repeat(4, axis=2).repeat(3, axis=3)}
        arrays |= {f"y_{name}": split.y_N}
    path = tmp_path_factory.mktemp("photos") / "photos.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def checkpoint(photos: Path) -> Path:
    """What somebody's own script leaves: torchvision's class, its transforms' numbers, and torch.save."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with np.load(photos) as arrays:
        x_NCHW = torch.from_numpy(arrays["x_train"]).permute(0, 3, 1, 2).float() / 255
        y_N = torch.from_numpy(arrays["y_train"]).long()
    for _ in range(2):
        for batch_B in torch.randperm(len(y_N)).split(64):
            loss = cross_entropy(model((x_NCHW[batch_B] - mean) / std), y_N[batch_B])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    path = photos.with_name("best.pth")
    torch.save({"epoch": 2, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    return path


def shell(*args: str) -> str:
    return CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False).stdout


@pytest.mark.slow
def test_a_checkpoint_of_torchvisions_teaches_after_one_command(photos: Path, checkpoint: Path, tmp_path: Path) -> None:
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    told = shell("convert", str(checkpoint), "--out", str(teacher))
    assert "resnet18: 10 classes, 11.2M parameters" in told
    assert f"next: archsearch distill --teacher {teacher}" in told
    flags = ["--params-ratio", "0.01", "--space", "resnet_cifar", "--candidates", "3", "--epochs", "3", "--json"]
    result = json.loads(shell("distill", "--teacher", str(teacher), "--data", str(photos), "-o", str(student), *flags))
    # The file says nothing of 32 pixels and its network's default is 224: what it knows is looked for, and told.
    assert "teacher_resolution" in [warning["code"] for warning in result["warnings"]]
    assert result["teacher"]["macs"] < 50e6
    assert result["teacher"]["test_acc"] > 50
    assert result["student"]["test_acc"] > 30
    assert result["student"]["params"] <= 0.01 * result["teacher"]["params"]
