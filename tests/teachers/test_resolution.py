"""A teacher whose config only says its architecture's default is asked where it knows more."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models import save_for_hf

from archsearch import train_teacher
from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.domains.images.task import ImageSplit, ImageTask
from archsearch.errors import TeacherError
from archsearch.local import run
from archsearch.request import LocalTeacher, UploadedTeacher
from archsearch.teachers import ImageTeacher, at_best_size, describe_folder, load_teacher

# B batch, C channels, H W space


THIN = {"layers": [1, 1, 1, 1], "channels": [16, 24, 32, 48]}


@pytest.fixture(scope="module")
def stock_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock network trained at 8×8, saved by timm's helper as its documentation shows: it says 224."""
    home = tmp_path_factory.mktemp("stock")
    spec = {"epochs": 4, "batch_size": 64, "augment": "none", "optimizer": "adamw", "lr": 3e-3, "precision": "fp32"}
    train_teacher({"kind": "digits"}, home / "ours", model="resnet18", model_args=THIN, spec=spec)
    config = json.loads((home / "ours" / "config.json").read_text())
    model = timm.create_model("resnet18", num_classes=10, in_chans=1, **THIN)
    model.load_state_dict(timm.create_model(f"local-dir:{home / 'ours'}", pretrained=True).state_dict())
    pretrained = config["pretrained_cfg"]
    save_for_hf(
        model,
        str(home / "theirs"),
        safe_serialization=True,
        model_config={"pretrained_cfg": {"mean": pretrained["mean"], "std": pretrained["std"]}},
        data_config={"mean": pretrained["mean"], "std": pretrained["std"]},
    )
    return home / "theirs"


@pytest.mark.slow
def test_a_network_trained_small_is_asked_small_whatever_the_default(
    stock_folder: Path, digits: Dataset, few_digits: Dataset
) -> None:
    teacher = load_teacher(LocalTeacher(path=stock_folder))
    assert teacher.input_hw is not None
    assert teacher.input_hw[0] >= 160, "timm's helper keeps the architecture's"
    found = at_best_size(teacher, few_digits)
    assert found.input_hw == (8, 8)
    (note,) = found.notes
    assert note.code == "teacher_resolution"
    assert "so it is asked at 8×8; teacher.input_size settles it" in note.detail
    assert accuracy(found.logits, digits.selection) > 60
    uploaded = UploadedTeacher.model_validate({"upload": "up_0123456789", **describe_folder(stock_folder)})
    assert at_best_size(load_teacher(uploaded, stock_folder / "model.safetensors"), few_digits).input_hw == (8, 8)


def test_what_the_request_says_is_not_questioned(stock_folder: Path, digits: Dataset) -> None:
    for size, hw in ((64, (64, 64)), ((8, 16), (8, 16))):
        teacher = load_teacher(LocalTeacher.model_validate({"path": stock_folder, "input_size": size}))
        found = at_best_size(teacher, digits)
        assert (found.input_hw, found.notes) == (hw, ())


class Enlarged(torch.nn.Module):
    """Knows the digits by their height in pixels: only images of 224 show it anything."""

    pretrained_cfg = {"architecture": "resnet18"}  # noqa: RUF012 (as timm's networks have it)

    def __init__(self, knows: int) -> None:
        super().__init__()
        self.knows = knows

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        level_B = (x_BCHW.mean((1, 2, 3)) * 10).round().long().clamp(0, 9)
        right_BK = torch.eye(10)[level_B]
        return right_BK if x_BCHW.shape[2] == self.knows else torch.zeros_like(right_BK)


@pytest.fixture
def levels() -> Dataset:
    """Ten greys, each a class."""
    y_N = np.arange(10).repeat(30)
    x_NHWC = np.broadcast_to((y_N * 25.5).round().astype(np.uint8)[:, None, None, None], (300, 32, 32, 3)).copy()
    split = ImageSplit(x_NHWC, y_N)
    return Dataset(ImageTask(10, 3, 32, 32, (0.5,) * 3, (0.25,) * 3), split, split, split, "")


def test_a_network_trained_large_stays_large(levels: Dataset) -> None:
    teacher = ImageTeacher("t", Enlarged(224), 10, 3, (0.0,) * 3, (1.0,) * 3, (224, 224), "")
    found = at_best_size(teacher, levels)
    assert found.input_hw == (224, 224)
    assert "so it is asked at 224×224" in found.notes[0].detail
    assert at_best_size(dataclasses.replace(teacher, model=Enlarged(32)), levels).input_hw == (32, 32)


@pytest.mark.parametrize(
    "change", [{"input_hw": (160, 160)}, {"input_hw": None}, {"size_known": True}, {"num_classes": 7}], ids=str
)
def test_only_an_untouched_default_is_questioned(levels: Dataset, change: dict[str, object]) -> None:
    teacher = ImageTeacher("t", Enlarged(32), 10, 3, (0.0,) * 3, (1.0,) * 3, (224, 224), "")
    asked = dataclasses.replace(teacher, **change)
    assert at_best_size(asked, levels) is asked


def test_a_network_built_for_one_size_is_not_asked_at_another(tmp_path: Path) -> None:
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 3}
    save_for_hf(timm.create_model("vit_tiny_patch16_224", **args), str(tmp_path), safe_serialization=True)
    with pytest.raises(TeacherError, match="is built for 32×32 pixels alone") as caught:
        load_teacher(LocalTeacher(path=tmp_path, input_size=16))
    assert caught.value.field == "teacher.input_size"


@pytest.mark.slow
def test_a_job_tells_at_which_size_it_asks(stock_folder: Path, tmp_path: Path) -> None:
    request = {
        "kind": "search",
        "teacher": {"kind": "local", "path": str(stock_folder)},
        "data": {"kind": "digits"},
        "budget": {"params": 20_000},
        "search": {"space": "resnet_cifar", "candidates": 2, "batch_size": 16},
    }
    result = run(request, tmp_path / "out")
    assert "teacher_resolution" in [warning["code"] for warning in result["warnings"]]
    assert result["teacher"]["macs"] < 10_000_000
