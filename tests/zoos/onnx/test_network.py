"""A graph answers as it would elsewhere, whatever it takes and however many at a time; what it costs is counted."""

# B batch, C channels, H W space, K classes

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from archsearch import domains
from archsearch.data import Dataset
from archsearch.distill.learner import prepare
from archsearch.distill.train import train
from archsearch.distill.watched import Watched, comparable
from archsearch.domains.image_classification.teacher import load
from archsearch.errors import InvalidRequest, TeacherError
from archsearch.hardware import measure_teacher
from archsearch.request import DistillSpec, LocalTeacher
from archsearch.teachers import ImageTeacher, build
from tests.teachers.test_stand_in import blank
from tests.zoos.onnx.graphs import CLASSES, FEATURES, answering, convolutional, expected, save, weights

STATED: Any = {"mean": [0.0], "std": [1.0]}


def teacher_of(path: Path, dataset: Dataset | None = None, **said: Any) -> ImageTeacher:
    return load(LocalTeacher(path=path, **said), None, dataset)


@pytest.mark.parametrize(
    "graph",
    [
        {},
        {"layout": "nhwc", "batch": 4, "size": 8},
        {"batch": 1, "kind": TensorProto.DOUBLE},
        {"batch": 64, "kind": TensorProto.FLOAT16, "size": 8},
    ],
)
@pytest.mark.parametrize("images", [1, 7, 70])
def test_it_answers_as_torch_does_to_any_number_of_images(graph: dict[str, Any], images: int, tmp_path: Path) -> None:
    teacher = teacher_of(convolutional(tmp_path / "net.onnx", **graph), **STATED)
    x_BCHW = torch.rand(images, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    tolerance = 1e-2 if graph.get("kind") == TensorProto.FLOAT16 else 1e-4
    torch.testing.assert_close(teacher.logits(x_BCHW), expected(x_BCHW)[1], rtol=tolerance, atol=tolerance)
    assert (teacher.num_classes, teacher.in_chans) == (CLASSES, 1)
    assert teacher.input_hw == ((8, 8) if "size" in graph else None)


def test_whole_numbers_are_pixels_as_files_hold_them(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx", kind=TensorProto.UINT8, layout="nhwc", size=8, times=1 / 255)
    x_BCHW = torch.randint(0, 256, (5, 1, 8, 8)).float() / 255
    torch.testing.assert_close(teacher_of(path).logits(x_BCHW), expected(x_BCHW)[1], rtol=1e-4, atol=1e-4)


def test_a_normalisation_is_taken_in_the_unit_of_its_scale(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx")
    teacher = teacher_of(path, scale="0-255", mean=[100.0], std=[50.0])
    x_BCHW = torch.rand(3, 1, 8, 8)
    wanted = expected((255 * x_BCHW - 100) / 50)[1]
    torch.testing.assert_close(teacher.logits(x_BCHW), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("ends", "said"), [(["Softmax"], {}), (["Softmax", "Identity"], {}), (["Sigmoid"], {})])
def test_probabilities_become_logits(ends: list[str], said: dict[str, Any], tmp_path: Path) -> None:
    x_BCHW = torch.rand(3, 1, 8, 8)
    logits_BK = expected(x_BCHW)[1]
    wanted = logits_BK.log_softmax(1) if "Softmax" in ends else logits_BK
    teacher = teacher_of(convolutional(tmp_path / "net.onnx", ends=ends), **STATED, **said)
    torch.testing.assert_close(teacher.logits(x_BCHW), wanted, rtol=1e-2, atol=5e-2)


def test_what_a_request_says_of_the_answers_goes_first(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx", ends=["Softmax"])
    x_BCHW = torch.rand(3, 1, 8, 8)
    found = teacher_of(path, outputs="logits", **STATED).logits(x_BCHW)
    torch.testing.assert_close(found, expected(x_BCHW)[1].softmax(1), rtol=1e-3, atol=1e-4)
    plain = convolutional(tmp_path / "plain.onnx")
    odds = teacher_of(plain, outputs="probabilities", **STATED).logits(x_BCHW)
    assert odds.isfinite().all()


def test_classes_are_chosen_among_its_answers(digits: Dataset, tmp_path: Path) -> None:
    names = [f"c{k}" for k in range(12)]
    path = convolutional(tmp_path / "net.onnx", classes=12, texts={"names": repr(dict(enumerate(names)))})
    classes = {str(k): f"c{11 - k}" for k in range(10)}
    teacher = teacher_of(path, digits, classes=classes, **STATED)
    x_BCHW = torch.rand(3, 1, 8, 8)
    wanted = expected(x_BCHW, classes=12)[1][:, [11 - k for k in range(10)]]
    torch.testing.assert_close(teacher.logits(x_BCHW), wanted, rtol=1e-4, atol=1e-4)
    assert teacher.num_classes == 10
    with pytest.raises(TeacherError) as caught:
        teacher_of(path, digits, classes={**classes, "3": "nothing"}, **STATED)
    assert caught.value.field == "teacher.classes.3"


def test_maps_that_are_put_out_are_stages(tmp_path: Path) -> None:
    teacher = teacher_of(convolutional(tmp_path / "net.onnx", shown=True), **STATED)
    student = build("cifar_resnet", {"num_classes": 10, "in_chans": 1, "depths": [1, 1, 1], "widths": [8, 8, 8]})
    assert comparable(student, teacher.model)[1] == ("stages.0",)
    watched = Watched(teacher.model, ("stages.0",), {"stages"})
    x_BCHW = torch.rand(3, 1, 8, 8)
    (map_BCHW,) = watched.outputs(teacher.logits(x_BCHW)).maps
    torch.testing.assert_close(map_BCHW, expected(x_BCHW)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", ["batch", 3])
def test_its_costs_are_those_of_one_image(batch: Any, digits: Dataset, tmp_path: Path) -> None:
    cost = measure_teacher(teacher_of(convolutional(tmp_path / "net.onnx", batch=batch), **STATED), digits.task)
    assert cost.params == sum(value.size for value in weights().values()) + 1  # what images are multiplied by
    assert cost.macs == 64 * FEATURES * 9 + FEATURES * CLASSES


def test_what_a_function_of_the_file_computes_is_counted(digits: Dataset, tmp_path: Path) -> None:
    product = helper.make_node("Conv", ["a", "k"], ["b"], pads=[1, 1, 1, 1])
    call = helper.make_node("filter", ["images", "again"], ["x"], domain="own")
    again = {"again": np.ones((1, 1, 3, 3), np.float32)}
    path = answering(tmp_path / "net.onnx", [call], initial=again, functions=[("filter", ["a", "k"], ["b"], [product])])
    assert measure_teacher(teacher_of(path, **STATED), digits.task).macs == 64 * 9 * (1 + FEATURES) + FEATURES * CLASSES


@pytest.mark.parametrize(
    ("method", "says"),
    [("fitnet", "names no stages"), ("rkd", "nothing they are made of"), ("blockwise", "has no gradients")],
)
def test_what_needs_more_than_answers_says_so(method: str, says: str, digits: Dataset, tmp_path: Path) -> None:
    from contextlib import ExitStack

    teacher = teacher_of(convolutional(tmp_path / "net.onnx"), **STATED)
    student = build("cifar_resnet", {"num_classes": 10, "in_chans": 1, "depths": [1, 1, 1], "widths": [8, 8, 8]})
    spec = DistillSpec(method=method, epochs=1, batch_size=32)
    with ExitStack() as stack, pytest.raises(InvalidRequest, match=says) as caught:
        prepare(student, digits, spec, teacher, device="cpu", cache=None, stack=stack)
    assert caught.value.field == "distill.method"


def test_a_row_of_pixels_is_taken_from_data_of_that_size(digits: Dataset, tmp_path: Path) -> None:
    matrix = np.random.RandomState(0).normal(size=(64, 10)).astype(np.float32)
    ports = [
        helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, 64]),
        helper.make_tensor_value_info("answers", TensorProto.FLOAT, [None, 10]),
    ]
    node = helper.make_node("MatMul", ["rows", "matrix"], ["answers"])
    path = save(tmp_path / "net.onnx", [node], ports[:1], ports[1:], [numpy_helper.from_array(matrix, "matrix")])
    teacher = teacher_of(path, digits, **STATED)
    x_BCHW = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(
        teacher.logits(x_BCHW), x_BCHW.flatten(1) @ torch.from_numpy(matrix), rtol=1e-4, atol=1e-4
    )
    assert measure_teacher(teacher, digits.task).macs == 640
    with pytest.raises(TeacherError, match="only data tell"):
        teacher_of(path, **STATED)


def test_its_identity_follows_from_the_file_and_how_it_is_shown_images(tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx")
    one, other = teacher_of(path, **STATED), teacher_of(path, mean=[0.5], std=[0.5])
    assert (one.sha256, one.identity) == (teacher_of(path, **STATED).sha256, teacher_of(path, **STATED).identity)
    assert one.sha256 == other.sha256
    assert one.identity != other.identity


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_graph_without_a_classifier_gets_a_head(layout: str, digits: Dataset, tmp_path: Path) -> None:
    path = convolutional(tmp_path / "net.onnx", layout=layout, shown=True)
    model = onnx.load(str(path))
    del model.graph.output[1:]  # only the map is left, channels first
    if layout == "nhwc":
        model.graph.node.append(helper.make_node("Transpose", ["map"], ["turned_map"], perm=[0, 2, 3, 1]))
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("turned_map", TensorProto.FLOAT, None))
    onnx.save(model, str(path))
    with pytest.raises(TeacherError, match="export it with its classifier"):
        teacher_of(path, digits, **STATED)
    teacher = teacher_of(path, digits, head="probe", **STATED)
    assert (teacher.num_classes, teacher.model.num_features) == (10, FEATURES)
    x_BCHW = digits.selection.examples(slice(0, 5))
    watched = Watched(teacher.model, (), {"embedding", "head"})
    outputs = watched.outputs(teacher.logits(x_BCHW))
    torch.testing.assert_close(outputs.embedding_BD, expected(x_BCHW)[0].mean((2, 3)), rtol=1e-4, atol=1e-4)
    assert outputs.weight_KD is not None
    torch.testing.assert_close(
        outputs.answers_MK, outputs.embedding_BD @ outputs.weight_KD.T + teacher.model.head.bias, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("method", ["fitnet", "at", "sp"])
def test_its_stages_teach(method: str, few_digits: Dataset, tmp_path: Path) -> None:
    teacher = teacher_of(convolutional(tmp_path / "net.onnx", shown=True), **STATED)
    student = build("cifar_resnet", {"num_classes": 10, "in_chans": 1, "depths": [1, 1, 1], "widths": [8, 8, 8]})
    spec = DistillSpec(method=method, epochs=1, batch_size=64, augment="none")
    *_, last = train(student, few_digits, spec, teacher=teacher, optimizer="sgd")
    assert last.loss is not None
    assert np.isfinite(last.loss)


def test_without_labels_its_answers_are_the_classes_once_it_is_said_how_it_is_shown_pixels(
    tmp_path: Path, few_digits: Dataset
) -> None:
    data, path = blank(few_digits), convolutional(tmp_path / "network.onnx", classes=7)
    with pytest.raises(TeacherError, match="without labels nothing tells; say mean and std") as caught:
        load(LocalTeacher(path=path), None, data)
    assert caught.value.field == "teacher.mean"
    names = [f"class {k}" for k in range(7)]
    teacher = load(LocalTeacher(path=path, mean=[0.0], std=[1.0], class_names=names), None, data)
    found = domains.of(data.task).encode(data, teacher, None)
    assert (found.task.classes, found.task.class_names) == (7, tuple(names))
    answers_NK = teacher.logits(data.test.examples(slice(None)))
    assert found.test.y_N.tolist() == answers_NK.argmax(1).tolist()
