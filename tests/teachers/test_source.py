from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from archsearch.errors import ArchsearchError, InvalidRequest, TeacherError
from archsearch.request import TimmTeacher, UploadedTeacher
from archsearch.teachers import (
    check_source,
    check_weights_file,
    describe_folder,
    load_teacher,
)

ROOT = Path(__file__).parents[2]


def refused(source: Any, path: Path | None = None) -> ArchsearchError:
    with pytest.raises(ArchsearchError) as caught:
        load_teacher(source, path)
    return caught.value


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    save_file({}, tmp_path / "w.safetensors")
    with pytest.raises(TeacherError, match="holds no tensors"):
        check_weights_file(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "args",
    [
        {"checkpoint_path": "x"},
        {"pretrained": True},
        {"pretrained_cfg": "x"},
        {"pretrained_cfg_overlay": "x"},
        {"cache_dir": "x"},
        {"features_only": True},
        {"num_classes": 3},
        {"in_chans": 3},
        {"norm_layer": "/etc/passwd"},
        {"depths": [1, "a/b"]},
        {"depths": [10**6]},
        {"depths": list(range(65))},
        {"drop_rate": float("inf")},
        {"drop_rate": float("nan")},
        {"block": {"a": 1}},
        {"block": None},
        {"act_layer": "x" * 65},
    ],
    ids=str,
)
def test_arguments_that_are_not_sizes_are_refused(source: UploadedTeacher, args: dict[str, Any]) -> None:
    (name,) = args
    with pytest.raises(InvalidRequest) as caught:
        check_source(source.model_copy(update={"model_args": args}))
    assert caught.value.field == f"source.model_args.{name}"
    assert type(refused(source.model_copy(update={"model_args": args}), ROOT / "README.md")) is InvalidRequest


def test_sizes_words_and_switches_are_welcome(source: UploadedTeacher) -> None:
    args = {"depths": [1, 2], "act_layer": "gelu", "qkv_bias": True, "drop_rate": 0.1, "nested": [[1], [2]]}
    check_source(source.model_copy(update={"model_args": args}))


@pytest.mark.parametrize("name", ["local-dir:/etc", "local_dir:/etc", "file:/etc/passwd", "https://example.org/a"])
def test_a_client_names_no_path(source: UploadedTeacher, name: str) -> None:
    uploaded = source.model_copy(update={"architecture": name})
    for asked, field in ((TimmTeacher(name=name), "source.name"), (uploaded, "source.architecture")):
        with pytest.raises(InvalidRequest, match="no timm model a client may ask for") as caught:
            check_source(asked)
        assert caught.value.field == field
    assert type(refused(TimmTeacher(name=name))) is InvalidRequest
    with pytest.raises(InvalidRequest):  # weights are uploaded; the hub is no architecture
        check_source(source.model_copy(update={"architecture": "hf-hub:a/b"}))


def test_a_folders_config_describes_the_upload(teacher_folder: Path, tmp_path: Path) -> None:
    described = describe_folder(teacher_folder)
    assert described["architecture"] == "cifar_resnet"
    assert (described["num_classes"], described["in_chans"], described["input_size"]) == (10, 1, 8)
    assert described["model_args"]["widths"] == [16, 24, 32]
    (tmp_path / "model.safetensors").touch()
    for content in ("{}", "not json", '{"pretrained_cfg": {"input_size": 3}, "num_classes": 2}'):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(TeacherError, match=r"config\.pretrained_cfg|cannot be read"):
            describe_folder(tmp_path)


def test_a_header_larger_than_any_networks_is_refused_unread(tmp_path: Path) -> None:
    # Whole, and of tensors without a single number: reading it takes seconds and hundreds of megabytes.
    entry = '"%06x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = ("{" + ",".join(entry % number for number in range(90_000)) + "}").encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(TeacherError, match=r"header has 5,\d+,\d+ bytes, more than the 4,194,304 of any network"):
        check_weights_file(path)


def test_weights_that_are_there_no_more_are_said_to_be(source: UploadedTeacher, tmp_path: Path) -> None:
    error = refused(source, tmp_path / "content")
    assert (error.code, "upload them again" in error.detail) == ("gone", True)
