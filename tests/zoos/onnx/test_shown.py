"""What a file's metadata say of how it is shown images, whoever wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archsearch.errors import TeacherError
from archsearch.request import OnnxTeacher
from archsearch.zoos.onnx.shown import Shown, in_file, in_whole_numbers, said


def texts(**fields: Any) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}


def test_ultralytics_name_classes_and_size() -> None:
    told = texts(names="{0: 'tench (fish)', 1: 'it\\'s \"a\" dog', 10: 'z'}", imgsz="[224, 160]", task="classify")
    assert in_file(told, "upload") == Shown(
        class_names=("tench (fish)", 'it\'s "a" dog', "z"), input_hw=(224, 160)
    )  # fmt: skip


def test_a_normalisation_is_read_in_its_scale() -> None:
    told = texts(mean=[127.5], std=[51], scale="0-255", layout="NHWC", outputs="probabilities", labels=["a", "b"])
    assert in_file(told, "upload") == Shown("nhwc", 255, (0.5,), (0.2,), "probabilities", ("a", "b"))


def test_what_is_said_goes_first() -> None:
    source = OnnxTeacher(upload="up_" + "0" * 20, mean=[0.1], layout="nchw")
    found = said(source, 32).over(Shown("nhwc", 255, (0.5,), (0.2,), "logits", ("a",), (8, 8)))
    assert found == Shown("nchw", 255, (0.1,), (0.2,), "logits", ("a",), (32, 32))
    assert in_whole_numbers(Shown(mean=(127.5,), std=(255.0,))) == Shown(scale=255, mean=(0.5,), std=(1.0,))


@pytest.mark.parametrize(
    "text", ["-" * 10**5 + "1", "[" * 10**4, "{0: " + "(" * 200 + ")" * 200 + "}", "__import__('os')"]
)
def test_no_expression_is_worked_at(text: str) -> None:
    assert in_file({"names": text, "mean": text}, "upload") == Shown()


def test_a_normalisation_that_is_none_is_refused() -> None:
    for wrong in ([0.0, float("inf")], [1e9], ["a"], [True], [10**400]):
        with pytest.raises(TeacherError, match="which goes first"):
            in_file({"mean": json.dumps(wrong)}, "upload")


@pytest.mark.parametrize(
    "names",
    [{"9" * 5000: "a"}, ["\ud800", "b"], ["a\0", "b"], ["a" * 1001, "b"], [["a"], {"b": 1}], ["", "b"], ["a", "a"]],
    ids=lambda names: str(type(names)),
)
def test_names_that_no_class_has_name_none(names: Any) -> None:
    assert in_file(texts(names=names), "upload") == Shown()


def test_a_graph_that_takes_other_numbers_is_none_of_our_exports() -> None:
    told = texts(input="uint8 B×H×W×C", mean=0.5, std=[0.25])
    assert in_file(told, "upload") == Shown(mean=(0.5,), std=(0.25,))
    assert in_file(told, "upload", whole=True) == Shown("nhwc", 255, outputs="logits")
