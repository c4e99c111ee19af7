from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from archsearch.data import Dataset
from archsearch.errors import ArchsearchError, TeacherError, UnknownName
from archsearch.request import LocalTeacher, TimmTeacher, UploadedTeacher
from archsearch.teachers import (
    Teacher,
    fingerprint,
    load_teacher,
)

# B batch, C channels, H W space, K classes


def refused(source: Any, path: Path | None = None) -> ArchsearchError:
    with pytest.raises(ArchsearchError) as caught:
        load_teacher(source, path)
    return caught.value


class Bomb:
    """Pickled, it leaves a file behind whoever unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def test_a_folder_comes_back_as_the_teacher_it_was(teacher: Teacher, teacher_folder: Path, digits: Dataset) -> None:
    config = json.loads((teacher_folder / "config.json").read_text())["pretrained_cfg"]
    assert (teacher.num_classes, teacher.in_chans, teacher.input_hw) == (10, 1, (8, 8))
    assert [list(teacher.mean), list(teacher.std)] == [config["mean"], config["std"]]
    assert list(teacher.mean) == list(digits.task.mean)
    saved = load_file(teacher_folder / "model.safetensors")
    assert all(value.equal(saved[name]) for name, value in teacher.model.state_dict().items())


def test_a_teacher_is_frozen_and_in_eval_mode(teacher: Teacher) -> None:
    assert not any(module.training for module in teacher.model.modules())
    assert not any(p.requires_grad for p in teacher.model.parameters())


def test_an_upload_is_the_same_teacher_as_its_folder(
    source: UploadedTeacher, teacher: Teacher, teacher_folder: Path, digits: Dataset
) -> None:
    uploaded = load_teacher(source, teacher_folder / "model.safetensors")
    assert uploaded.sha256 == teacher.sha256 == fingerprint(teacher.model)
    x_BCHW = digits.test.images()[:8].float() / 255
    assert uploaded.logits(x_BCHW).equal(teacher.logits(x_BCHW))


def test_missing_superfluous_and_misshapen_tensors_are_named(
    source: UploadedTeacher, weights: dict, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    del weights["conv1.weight"]
    weights["extra.weight"] = torch.zeros(1)
    weights["fc.bias"] = torch.zeros(11)
    save_file(weights, path)
    error = refused(source, path)
    assert (type(error), error.field) == (TeacherError, "upload")
    assert "conv1.weight is missing" in error.detail
    assert "extra.weight is not part of it" in error.detail
    assert "fc.bias is (11,) instead of (10,)" in error.detail


def test_many_wrong_tensors_are_counted(source: UploadedTeacher, tmp_path: Path) -> None:
    save_file({"nothing": torch.zeros(1)}, tmp_path / "w.safetensors")
    assert " more" in refused(source, tmp_path / "w.safetensors").detail


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_weights_are_refused_unread_with_the_fix(
    source: UploadedTeacher, weights: dict, tmp_path: Path, zipped: bool
) -> None:
    path, trap = tmp_path / "weights.pth", tmp_path / "sprung"
    if zipped:
        torch.save({**weights, "bomb": Bomb(trap)}, path)
    else:
        path.write_bytes(pickle.dumps({"bomb": Bomb(trap)}))
    error = refused(source, path)
    assert (type(error), error.field) == (TeacherError, "upload")
    assert "safetensors.torch.save_file" in error.detail
    assert not trap.exists()


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_a_file_cut_short_is_refused(source: UploadedTeacher, teacher_folder: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes((teacher_folder / "model.safetensors").read_bytes()[:keep])
    error = refused(source, path)
    assert type(error) is TeacherError
    assert "not a whole safetensors file" in error.detail


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(
    source: UploadedTeacher, weights: dict, tmp_path: Path, value: float
) -> None:
    weights["fc.weight"][3, 3] = value
    save_file(weights, tmp_path / "w.safetensors")
    assert "not finite in fc.weight" in refused(source, tmp_path / "w.safetensors").detail


def test_an_unknown_timm_name_suggests_the_nearest(source: UploadedTeacher, teacher_folder: Path) -> None:
    error = refused(TimmTeacher(name="resnet_18"))
    assert (type(error), error.field) == (UnknownName, "teacher.name")
    assert "did you mean 'resnet18'?" in error.detail
    upload = source.model_copy(update={"architecture": "cifar_resnt"})
    error = refused(upload, teacher_folder / "model.safetensors")
    assert (type(error), error.field) == (UnknownName, "architecture")
    assert "did you mean 'cifar_resnet'?" in error.detail


def test_a_timm_name_without_weights_is_a_teacher_error() -> None:
    error = refused(TimmTeacher(name="cifar_resnet"))
    assert (type(error), error.field) == (TeacherError, "teacher.name")


@pytest.mark.parametrize(
    "args", [{"colour": "red"}, {"depths": [0, 1, 1]}, {"depths": "many"}, {"widths": [8]}], ids=str
)
def test_arguments_timm_cannot_build_with_are_the_clients_error(
    source: UploadedTeacher, teacher_folder: Path, args: dict[str, Any]
) -> None:
    error = refused(source.model_copy(update={"model_args": args}), teacher_folder / "model.safetensors")
    assert (type(error), error.field) == (TeacherError, "model_args")


def test_a_folder_needs_both_its_files(teacher_folder: Path, tmp_path: Path) -> None:
    shutil.copy(teacher_folder / "config.json", tmp_path)
    error = refused(LocalTeacher(path=tmp_path))
    assert (type(error), error.field) == (TeacherError, "teacher.path")
    assert "needs config.json and model.safetensors" in error.detail
    (tmp_path / "model.safetensors").write_bytes(b"not weights at all")
    assert type(refused(LocalTeacher(path=tmp_path))) is TeacherError
