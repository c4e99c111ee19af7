"""What is no teacher yet is named for what it is, with what to do."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from archsearch.cli.inputs import teacher_of
from archsearch.errors import InvalidRequest, TeacherError
from archsearch.request import LocalTeacher, TimmTeacher
from archsearch.teachers import check_weights_file, describe_folder, load_teacher
from archsearch.teachers.foreign import kind_of


def refused(path: Path) -> str:
    """What the shell's --teacher answers, which is also what the library's request does."""
    named = teacher_of(str(path))
    assert named == {"kind": "local", "path": str(path)}
    with pytest.raises(TeacherError) as caught:
        load_teacher(LocalTeacher.model_validate(named))
    assert caught.value.field == "teacher.path"
    with pytest.raises(TeacherError) as described:  # what `submit` asks
        describe_folder(path)
    assert described.value.detail == caught.value.detail
    return caught.value.detail


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_file_of_weights_is_named_with_the_command_that_makes_a_teacher_of_it(
    name: str, teacher_folder: Path, tmp_path: Path, teacher: Any
) -> None:
    path, state = tmp_path / name, dict(teacher.model.state_dict())
    if name.endswith("pth"):
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    told = refused(path)
    assert f"of {len(state)} tensors that looks like cifar_resnet with 10 classes" in told
    assert f"`archsearch convert {path} --out teacher`" in told


def test_a_file_of_weights_nobody_knows_is_named_all_the_same(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "net.ckpt")
    assert "a PyTorch checkpoint of 1 tensors, of no architecture that was recognised" in refused(tmp_path / "net.ckpt")


FILES = {
    "net.onnx": (b"\x08\x08\x12\x07pytorch", "an ONNX graph"),
    "net.h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "a Keras or TensorFlow model"),
    "net.tflite": (b"\x1c\0\0\0TFL3" + b"\0" * 20, "a TensorFlow Lite model"),
    "net.gguf": (b"GGUF" + b"\0" * 20, "a GGUF language model"),
    "net.txt": (b"hello, this is no network", "no kind of weights archsearch knows"),
    "net.bin": (b"", "an empty file"),
}


@pytest.mark.parametrize("name", FILES)
def test_other_libraries_files_are_named(name: str, tmp_path: Path) -> None:
    content, told = FILES[name]
    (tmp_path / name).write_bytes(content)
    assert f"{tmp_path / name} is {told}" in refused(tmp_path / name)


def test_an_archive_of_arrays_is_data(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros(3))
    assert "if it holds images it is data" in refused(tmp_path / "a.npz")


def test_a_file_that_is_not_there_is_no_timm_name(tmp_path: Path) -> None:
    for name, told in (
        ("nets/mine.pth", "is a file's name"),
        ("google/vit-base-patch16-224", "say hf-hub:google/vit-base-patch16-224"),
        ("mobilenet_v2", r"timm's of the same architecture is mobilenetv2_100\."),
        ("torchvision/resnet50", r"is resnet50\.tv_in1k"),
        ("torchvision.models.resnet18", r"is resnet18\.tv_in1k"),
        ("ResNet18_Weights.IMAGENET1K_V1", r"is resnet18\.tv_in1k"),
    ):
        assert teacher_of(name) == {"kind": "timm", "name": name}
        with pytest.raises(InvalidRequest, match=told) as caught:
            load_teacher(TimmTeacher(name=name))
        assert caught.value.field == "teacher.name"


def test_a_folder_of_the_transformers_library_is_named(tmp_path: Path) -> None:
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": 768}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    told = refused(tmp_path)
    assert "is a network of the transformers library (ViTForImageClassification)" in told
    assert "train-teacher --pretrained" in told


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([], r"needs config\.json and model\.safetensors, as timm saves them; it has nothing in it"),
        (["a.jpg", "b.jpg", "c.jpg", "d.jpg"], r"it has a\.jpg, b\.jpg, c\.jpg, …"),
        (["best.pth"], r"has weights \(best\.pth\) but no config\.json.*archsearch convert \S+best\.pth --out teacher"),
        (["config.json", "pytorch_model.bin"], r"its weights are in pytorch_model\.bin: run `archsearch convert"),
        (["config.json"], r"needs config\.json and model\.safetensors; it has no weights"),
        (["saved_model.pb"], "is a Keras or TensorFlow model"),
    ],
)
def test_a_folder_that_is_no_teacher_says_what_it_lacks(files: list[str], told: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text('{"architecture": "resnet18", "pretrained_cfg": {}}')
    assert re.search(told, refused(tmp_path))


@pytest.mark.parametrize("content", ["[1]", "{", '"text"', "[" * 100_000, '{"a": 1}\xff'])
def test_a_config_that_is_none_is_said_to_be_so(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin1"))
    (tmp_path / "model.safetensors").touch()
    assert "config.json" in refused(tmp_path)


@pytest.mark.parametrize("name", ["net.onnx", "net.h5", "net.tflite"])
def test_an_upload_of_another_kind_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name][0])
    with pytest.raises(TeacherError) as caught:
        check_weights_file(tmp_path / name)
    assert FILES[name][1] in caught.value.detail
    assert str(tmp_path) not in caught.value.detail


def test_an_upload_of_a_pickle_names_the_command(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    assert kind_of(tmp_path / "a.pth") == "torch"
    with pytest.raises(TeacherError, match="archsearch convert FILE --out teacher"):
        check_weights_file(tmp_path / "a.pth")


def test_a_zip_of_more_members_than_weights_have_is_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
        for number in range(20_000):
            archive.writestr(f"{number}", b"")
    with pytest.raises(TeacherError, match="a zip archive; unpack it"):
        check_weights_file(path)
