"""What is no teacher is refused before it is run, with what to do, and without a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

import numpy as np
import onnx
from onnx import TensorProto, helper

from archsearch.data import Dataset
from archsearch.domains.image_classification.teacher import load
from archsearch.errors import ArchsearchError, TeacherError, TooMuchMemory
from archsearch.examine import ask
from archsearch.request import OnnxTeacher
from archsearch.teachers import check_onnx_file, check_teacher
from tests.zoos.onnx.graphs import answering, convolutional, one_operator, save

Wrong = Callable[[Path], Path]


def refused(path: Path, dataset: Dataset | None = None, **said: Any) -> ArchsearchError:
    source = OnnxTeacher(upload="up_" + "0" * 20, **{"mean": [0.0], "std": [1.0], **said})
    with pytest.raises(ArchsearchError) as caught:
        load(source, path, dataset)
    assert str(path.parent) not in caught.value.detail
    return caught.value


def _with_control_flow(path: Path) -> Path:
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 8, 8])
    yes = helper.make_tensor_value_info("yes", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["images"], ["yes"])], "branch", [], [yes])
    nodes = [
        helper.make_node("Constant", [], ["sure"], value=helper.make_tensor("sure", TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["sure"], ["answers"], then_branch=branch, else_branch=branch, name="fork"),
    ]
    return save(path, nodes, [images], [helper.make_tensor_value_info("answers", TensorProto.FLOAT, None)])


def _of_two_inputs(path: Path) -> Path:
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, 8, 8])
        for name in ("images", "masks", "sum")
    ]
    return save(path, [helper.make_node("Add", ["images", "masks"], ["sum"])], ports[:2], ports[2:])


def _with_weights_elsewhere(path: Path) -> Path:
    model = onnx.load(str(convolutional(path)))
    onnx.save(
        model,
        str(path),
        save_as_external_data=True,
        location="/etc/passwd.data"[1:].replace("/", "_"),
        size_threshold=0,
    )
    return path


def _of_later_operators(path: Path) -> Path:
    model = onnx.load(str(convolutional(path)))
    model.ir_version = 60
    onnx.save(model, str(path))
    return path


def _answering_maps(path: Path) -> Path:
    return one_operator(path, "Relu")


def _answering_labels(path: Path) -> Path:
    labels = helper.make_tensor_value_info("answers", TensorProto.INT64, None)
    return one_operator(path, "Cast", labels, to=TensorProto.INT64)


def _of_own_operators(path: Path) -> Path:
    return one_operator(path, "Swirl", domain="my.company")


def _of_numbers_of_another_kind(path: Path) -> Path:
    return convolutional(path, kind=TensorProto.INT32)


def _of_random_answers(path: Path) -> Path:
    noise = [helper.make_node("RandomNormalLike", ["images"], ["r"]), helper.make_node("Add", ["images", "r"], ["x"])]
    return answering(path, noise)


def _as_it_is_trained(path: Path) -> Path:
    """Dropout that drops."""
    drops = helper.make_node("Dropout", ["images", "half", "yes"], ["x"])
    return answering(path, [drops], initial={"half": np.float32(0.5), "yes": np.bool_(True)})


def _answering_of_the_batch(path: Path) -> Path:
    """As norms do that know the batch's statistics alone."""
    mean = helper.make_node("ReduceMean", ["raw"], ["mean"], axes=[0], keepdims=1)
    return answering(path, answers=[mean, helper.make_node("Sub", ["raw", "mean"], ["answers"])])


def _without_dimensions(path: Path) -> Path:
    return answering(path, port=helper.make_tensor_value_info("images", TensorProto.FLOAT, None))


def _of_a_huge_batch(path: Path) -> Path:
    return answering(path, port=helper.make_tensor_value_info("images", TensorProto.FLOAT, [2 * 10**9, 1, 8, 8]))


def _with_points_of_all_images(path: Path) -> Path:
    where = [
        helper.make_node("NonZero", ["map"], ["at"]),
        helper.make_node("Cast", ["at"], ["points"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["raw"], ["answers"]),
    ]
    return answering(path, answers=where, outputs=["points"])


def _of_names_that_are_no_text(path: Path) -> Path:
    path.write_bytes(convolutional(path).read_bytes().replace(b"images", b"\xff\xfe\xfd\xfcgs"))
    return path


def _calling_itself(path: Path) -> Path:
    again = ("again", ["a"], ["b"], [helper.make_node("again", ["a"], ["b"], domain="own")])
    return answering(path, [helper.make_node("again", ["images"], ["x"], domain="own")], functions=[again])


def _of_a_later_opset(path: Path) -> Path:
    model = onnx.load(str(convolutional(path)))
    model.opset_import[0].version = 999
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (_with_control_flow, "has control flow, If (fork); export the network traced"),
        (_of_two_inputs, "takes 2 inputs ('images', 'masks'), a teacher of images takes one"),
        (_with_weights_elsewhere, "lie in another file (external data), which is never read; save them inside"),
        (_of_later_operators, "export it with an older opset_version"),
        (_answering_maps, "no output of the graph is a row of answers"),
        (_answering_labels, "answers are floats, a row of them an image"),
        (_of_own_operators, "is an operator of 'my.company', which ONNX Runtime does not have"),
        (_of_numbers_of_another_kind, "images are float, float16, double or uint8"),
        (_of_random_answers, "answers the same images otherwise each time"),
        (_as_it_is_trained, "export it in evaluation mode: model.eval()"),
        (_answering_of_the_batch, "answers to an image otherwise when others stand beside it"),
        (_without_dimensions, "has no dimensions; images have four"),
        (_of_a_huge_batch, "2,000,000,000 images at once, as many as the graph takes"),
        (_with_points_of_all_images, "its output 'points' has the shape"),
        (_of_names_that_are_no_text, "of an input or output is no text in UTF-8"),
        (_calling_itself, "must not be recursive"),
        (_of_a_later_opset, "operator sets ai.onnx 999"),
    ],
)
def test_a_graph_that_is_no_teacher_is_refused(made: Wrong, says: str, tmp_path: Path) -> None:
    error = refused(made(tmp_path / "net.onnx"))
    assert says in error.detail
    assert "onnxruntime::" not in error.detail
    assert error.field == "upload"
    assert isinstance(error, TeacherError | TooMuchMemory)


def _eight_rows(path: Path) -> Path:
    first = helper.make_node("Slice", ["raw", "from", "to"], ["answers"])
    return answering(path, answers=[first], initial={"from": np.int64([0]), "to": np.int64([8])})


def _no_numbers(path: Path) -> Path:
    return answering(path, answers=[helper.make_node("Log", ["raw"], ["answers"])])


@pytest.mark.parametrize(
    ("made", "says"),
    [(_eight_rows, "has the shape (8, 10) for 64 images"), (_no_numbers, "are no numbers (NaN or infinity)")],
)
def test_what_shows_in_use_alone_is_refused_then(made: Wrong, says: str, digits: Dataset, tmp_path: Path) -> None:
    source = OnnxTeacher(upload="up_" + "0" * 20, mean=[0.0], std=[1.0])
    teacher = load(source, made(tmp_path / "net.onnx"), digits)
    with pytest.raises(TeacherError) as caught:
        check_teacher(teacher, digits)
    assert says in caught.value.detail


def test_a_file_is_looked_at_without_the_library(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx")
    check_onnx_file(path)
    content = path.read_bytes()
    for name, wrong, says in (
        ("cut", content[:-7], "not a whole ONNX file"),
        ("pickle", b"\x80\x04K\x01.", "no ONNX file but PyTorch weights, or whatever else is pickled"),
        ("empty", b"", "an empty file"),
        ("noise", content[:3] + b"\xff" * 100, "not a whole ONNX file"),
    ):
        (tmp_path / name).write_bytes(wrong)
        with pytest.raises(TeacherError) as caught:
            check_onnx_file(tmp_path / name)
        assert says in caught.value.detail


@pytest.mark.parametrize(
    ("graph", "said", "field", "says"),
    [
        ({"size": 8}, {"input_size": 16}, "teacher.input_size", "built for 8×8 pixels alone"),
        ({"size": 8, "in_chans": 8}, {}, "upload", "say teacher.layout"),
        ({"in_chans": 3}, {"mean": [0.1, 0.2], "std": [1.0, 1.0]}, "teacher.mean", "2 values for 3 channels"),
        ({}, {"class_names": ["a", "b"]}, "teacher.class_names", "2 names for 10 answers"),
    ],
)
def test_what_is_said_and_not_so_is_named(
    graph: dict[str, Any], said: dict[str, Any], field: str, says: str, tmp_path: Path
) -> None:
    error = refused(convolutional(tmp_path / "net.onnx", **graph), **said)
    assert (error.field, says in error.detail) == (field, True), error.detail


def test_a_graph_of_other_classes_does_not_fit_the_data(digits: Dataset, tmp_path: Path) -> None:
    source = OnnxTeacher(upload="up_" + "0" * 20, mean=[0.0], std=[1.0])
    teacher = load(source, convolutional(tmp_path / "net.onnx", classes=7), digits)
    with pytest.raises(TeacherError, match="tells 7 classes apart, the data has 10"):
        check_teacher(teacher, digits)


def test_a_jobs_data_are_shown_to_it_first(tmp_path: Path) -> None:
    source = {"kind": "onnx", "upload": "up_" + "0" * 20, "mean": [0.0]}
    asked: dict[str, Any] = {"source": source, "dataset": None, "digits": {}, "input_size": None}
    ask(lambda said: None, weights=str(convolutional(tmp_path / "net.onnx")), **asked)
    with pytest.raises(TeacherError, match="for 64 images"):
        ask(lambda said: None, weights=str(_eight_rows(tmp_path / "net.onnx")), **asked)
