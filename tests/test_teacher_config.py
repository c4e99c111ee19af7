"""A teacher's config is read strictly: what is missing, no number, or of another head is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from archsearch.errors import TeacherError
from archsearch.request import LocalTeacher, UploadedTeacher, first_error
from archsearch.teacher_config import check_plain, teacher_fields
from archsearch.teachers import load_teacher

CONFIG: dict[str, Any] = {
    "architecture": "resnet18",
    "num_classes": 3,
    "model_args": {},
    "label_names": ["a", "b", "c"],
    "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "num_classes": 3},
}
MISSING = object()
NAN, INF = float("nan"), float("inf")


def changed(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    inside = config
    for parent in parents:
        inside = inside[parent]
    if value is MISSING:
        del inside[last]
    else:
        inside[last] = value
    return config


WRONG: list[tuple[str, Any, str]] = [
    ("pretrained_cfg", MISSING, "config.pretrained_cfg is missing"),
    ("pretrained_cfg", [1], "config.pretrained_cfg: a mapping"),
    ("architecture", MISSING, "config.architecture is missing"),
    ("architecture", 18, "config.architecture: 18 is no timm model's name"),
    ("num_classes", MISSING, "config.num_classes is missing"),
    ("num_classes", "3", "config.num_classes: a whole number"),
    ("num_classes", 3.0, "config.num_classes: a whole number"),
    ("num_classes", True, "config.num_classes: a whole number"),
    ("num_classes", 10**9, "config.num_classes: a whole number"),
    ("pretrained_cfg.num_classes", 1000, "config.num_classes is 3, config.pretrained_cfg.num_classes 1000"),
    ("model_args", [1], "config.model_args: a mapping"),
    ("pretrained_cfg.input_size", MISSING, "config.pretrained_cfg.input_size is missing"),
    ("pretrained_cfg.input_size", 32, "config.pretrained_cfg.input_size: channels, height and width"),
    ("pretrained_cfg.input_size", [3, 32], "config.pretrained_cfg.input_size: channels, height and width"),
    ("pretrained_cfg.input_size", [3, "32", 32], "config.pretrained_cfg.input_size[1]: a whole number"),
    ("pretrained_cfg.input_size", [3, 32, 10**6], "config.pretrained_cfg.input_size[2]: a whole number"),
    ("pretrained_cfg.input_size", [0, 32, 32], "config.pretrained_cfg.input_size[0]: a whole number"),
    ("pretrained_cfg.mean", MISSING, "config.pretrained_cfg.mean is missing"),
    ("pretrained_cfg.mean", [0.5], "config.pretrained_cfg.mean has 1 values for 3 channels"),
    ("pretrained_cfg.mean", ["0.5"] * 3, "config.pretrained_cfg.mean: a list of 3 numbers"),
    ("pretrained_cfg.mean", "0.5", "config.pretrained_cfg.mean: a list of 3 numbers"),
    ("pretrained_cfg.mean", [True] * 3, "config.pretrained_cfg.mean: a list of 3 numbers"),
    ("pretrained_cfg.mean", [123.7, 116.3, 103.5], "where pixels were 0-255, divide by 255"),
    ("pretrained_cfg.mean", [NAN, 0, 0], "NaN and infinity are no JSON"),
    ("pretrained_cfg.std", [0.2, 0, 0.2], "config.pretrained_cfg.std must be positive"),
    ("pretrained_cfg.std", [1e-30] * 3, "config.pretrained_cfg.std: [1e-30"),
    ("pretrained_cfg.crop_pct", INF, "NaN and infinity are no JSON"),
    ("label_names", ["a", "b"], "config.label_names has 2 names for 3 classes"),
    ("label_names", {"0": "a", "x": "b"}, "config.label_names: a list, or a mapping of numbers"),
    ("label_names", 7, "config.label_names: a list of names"),
    ("label_names", ["a", "b", "\ud800"], "half a character"),
    ("\udfff", 1, "half a character"),
]


@pytest.mark.parametrize(("path", "value", "told"), WRONG, ids=[f"{path}={value!r:.20}" for path, value, _ in WRONG])
def test_what_is_wrong_in_a_config_is_named(path: str, value: Any, told: str) -> None:
    config = changed(path, value)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what is looked at)
        teacher_fields(config)
    assert told in str(caught.value)
    with pytest.raises(ValidationError) as refused:
        UploadedTeacher.model_validate({"upload": "up_0123456789", "config": config})
    assert told in first_error(refused.value)[1]


def test_a_whole_config_gives_the_fields_of_an_upload() -> None:
    fields = teacher_fields(CONFIG)
    assert fields["class_names"] == ["a", "b", "c"]
    assert fields["input_size"] == 32
    assert teacher_fields(changed("pretrained_cfg.input_size", [3, 24, 32]))["input_size"] == [24, 32]
    assert teacher_fields(changed("label_names", {"1": "b", "0": "a", "2": "c"}))["class_names"] == ["a", "b", "c"]
    source = UploadedTeacher.model_validate(
        {"upload": "up_0123456789", "config": changed("pretrained_cfg.input_size", [3, 24, 32])}
    )
    assert source.input_size == (24, 32)
    assert UploadedTeacher.model_validate(source.model_dump(mode="json")) == source


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"num_classes": "10"}, "num_classes", "valid integer"),
        ({"in_chans": True}, "in_chans", "valid integer"),
        ({"mean": ["0.5"] * 3}, "mean.0", "valid number"),
        ({"mean": [NAN] * 3}, "mean.0", "finite number"),
        ({"mean": [124.0] * 3}, "", "where pixels were 0-255, divide by 255"),
        ({"std": [INF] * 3}, "std.0", "finite number"),
        ({"input_size": "32"}, "input_size", "[height, width]"),
        ({"input_size": [32, 32, 3]}, "input_size", "[height, width]"),
        ({"input_size": 4096}, "input_size", "1 to 1024"),
        ({"model_args": {"a": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}}, "", "nested more than 16 deep"),
        ({"model_args": {"a": "\ud800"}}, "", "half a character"),
    ],
)
def test_what_is_wrong_in_the_fields_is_named(change: dict[str, Any], field: str, told: str) -> None:
    body = {"upload": "up_0123456789", "architecture": "resnet18", "num_classes": 10, **change}
    with pytest.raises(ValidationError) as caught:
        UploadedTeacher.model_validate(body)
    found, detail = first_error(caught.value)
    assert (found, told in detail) == (field, True), detail


def test_depth_and_number_of_values_are_bounded() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 16 deep"):
        check_plain(deep, "config")
    with pytest.raises(ValueError, match="values are no configuration"):
        check_plain([0] * 300_000, "config")


@pytest.fixture
def folder(teacher_folder: Path, tmp_path: Path) -> Path:
    """A copy of the teacher's folder."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((teacher_folder / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("pretrained_cfg.std", [0.0], "config.pretrained_cfg.std must be positive"),
        ("pretrained_cfg.mean", [NAN], "NaN and infinity"),
        ("pretrained_cfg.mean", ["0.3"], "a list of 1 numbers"),
        ("num_classes", 12, "config.num_classes is 12"),
        ("label_names", ["a", "b"], "config.label_names has 2 names for 10 classes"),
    ],
)
def test_a_folder_whose_config_is_wrong_is_refused_with_the_field(
    folder: Path, path: str, value: Any, told: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    *parents, last = path.split(".")
    (config[parents[0]] if parents else config)[last] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TeacherError) as caught:
        load_teacher(LocalTeacher(path=folder))
    assert caught.value.field == "teacher.path"
    assert told in caught.value.detail


def test_a_head_of_other_classes_than_the_config_says_is_no_head_of_noise(folder: Path) -> None:
    """timm builds what the config says, and leaves out a head that does not fit."""
    config = json.loads((folder / "config.json").read_text())
    config["num_classes"] = config["pretrained_cfg"]["num_classes"] = 7
    config.pop("label_names")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TeacherError, match="num_classes is 7, but the weights' fc tells 10 classes apart"):
        load_teacher(LocalTeacher(path=folder))


def test_a_backbone_whose_arguments_ask_for_a_head_has_none_of_noise(folder: Path) -> None:
    """timm builds what the arguments say, and of weights without a head loads the others."""
    config = json.loads((folder / "config.json").read_text())
    config["num_classes"] = config["pretrained_cfg"]["num_classes"] = 0
    config["model_args"]["num_classes"] = 10
    config.pop("label_names")
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    save_file({name: w for name, w in weights.items() if not name.startswith("fc.")}, folder / "model.safetensors")
    with pytest.raises(TeacherError, match=r"num_classes is 0, model_args.num_classes 10: the weights have one head"):
        load_teacher(LocalTeacher(path=folder))


def test_an_upload_of_other_classes_than_it_says_names_the_field(teacher_folder: Path, tmp_path: Path) -> None:
    weights = load_file(teacher_folder / "model.safetensors")
    weights["fc.weight"], weights["fc.bias"] = weights["fc.weight"][:9].clone(), weights["fc.bias"][:9].clone()
    save_file(weights, tmp_path / "w.safetensors")
    config = json.loads((teacher_folder / "config.json").read_text())
    source = UploadedTeacher.model_validate({"upload": "up_0123456789", "config": config})
    with pytest.raises(TeacherError, match="the weights tell 9 classes apart, num_classes says 10") as caught:
        load_teacher(source, tmp_path / "w.safetensors")
    assert caught.value.field == "num_classes"
