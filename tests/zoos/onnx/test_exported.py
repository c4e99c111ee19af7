"""Networks as exporters write them: torch's, and ours with all that reading photos takes in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

import onnx
import torch

from archsearch.data import Dataset
from archsearch.domains.image_classification.teacher import load
from archsearch.export.formats.onnx import save_onnx
from archsearch.hardware import measure_teacher
from archsearch.request import LocalTeacher
from archsearch.teachers import ImageTeacher, check_teacher


def exported(network: torch.nn.Module, path: Path) -> Path:
    """As torch's exporter writes a network of images of 8×8 pixels, for batches of any size."""
    x_BCHW = torch.zeros(2, 1, 8, 8)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.onnx.export(network.eval(), (x_BCHW,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert program is not None
    onnx.save(program.model_proto, str(path))
    return path


@pytest.mark.slow
def test_a_network_of_timms_is_the_same_teacher_by_torchs_exporter(
    digits: Dataset, teacher: ImageTeacher, tmp_path: Path
) -> None:
    path = exported(teacher.model, tmp_path / "net.onnx")
    found = load(LocalTeacher(path=path, mean=list(teacher.mean), std=list(teacher.std)), None, digits)
    x_BCHW = digits.test.images()[:100].float() / 255
    torch.testing.assert_close(found.logits(x_BCHW), teacher.logits(x_BCHW), rtol=1e-4, atol=1e-4)
    assert check_teacher(found, digits).measured == pytest.approx(check_teacher(teacher, digits).measured)
    own, theirs = measure_teacher(teacher, digits.task), measure_teacher(found, digits.task)
    assert theirs.macs == own.macs
    assert theirs.params == pytest.approx(own.params, rel=0.05)  # norms become part of convolutions


@pytest.mark.slow
def test_an_exported_student_says_everything_itself(digits: Dataset, teacher: ImageTeacher, tmp_path: Path) -> None:
    path = tmp_path / "student.onnx"
    save_onnx(teacher.model, digits.task, path)
    found = load(LocalTeacher(path=path), None, digits)
    assert found.notes == ()
    assert found.namings == (digits.task.class_names,)
    assert (found.input_hw, found.num_classes) == ((8, 8), 10)
    assert check_teacher(found, digits).measured == pytest.approx(check_teacher(teacher, digits).measured)


@pytest.mark.slow
def test_pixels_nobody_speaks_of_are_shown_as_the_teacher_is_right_with(
    digits: Dataset, teacher: ImageTeacher, tmp_path: Path
) -> None:
    class Normalising(torch.nn.Module):
        def forward(self, x_BCHW: Any) -> Any:
            return teacher.model(teacher.prepare(x_BCHW / 255))

    whole = Normalising()
    whole.inside = teacher.model
    found = load(LocalTeacher(path=exported(whole, tmp_path / "net.onnx")), None, digits)
    (note,) = found.notes
    assert note.code == "teacher_normalisation"
    assert "with pixels in 0-255 its accuracy is" in note.detail
    assert (found.mean, found.std) == ((0.0,), (1 / 255,))
    assert check_teacher(found, digits).measured == pytest.approx(check_teacher(teacher, digits).measured, abs=0.5)


@pytest.mark.slow
def test_one_that_was_trained_on_the_data_is_shown_them_as_they_are_spread(
    digits: Dataset, teacher: ImageTeacher, tmp_path: Path
) -> None:
    found = load(LocalTeacher(path=exported(teacher.model, tmp_path / "net.onnx")), None, digits)
    assert "with the data's own mean and deviation its accuracy is" in found.notes[0].detail
    assert (found.mean, found.std) == (digits.task.mean, digits.task.std)
    assert check_teacher(found, digits).measured == pytest.approx(check_teacher(teacher, digits).measured)
