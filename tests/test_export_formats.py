"""The student as programs that need none of our code: torch.export's and ONNX, for one member of each family."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from archsearch import export
from archsearch.domains.images.task import ImageTask
from archsearch.evaluate import network
from archsearch.spaces import of_domain, spaces

# B batch, C channels, H W space, K classes

TASK = ImageTask(10, 3, 32, 32, (0.5,) * 3, (0.25,) * 3)
GRAY = ImageTask(10, 1, 28, 28, (0.5,), (0.25,))
FAMILIES = [space.name for space in of_domain("image_classification") if not space.benchmark]
# Tracing takes seconds each; two families, one of each kind of images, are enough for every run.
OFTEN = {("resnet_cifar", "colour"), ("vit", "gray")}
TRACED = [
    pytest.param(name, kind, marks=[] if (name, kind) in OFTEN else pytest.mark.slow)
    for name in FAMILIES
    for kind in ("colour", "gray")
]
TOLERANCE = 1e-4

PLAIN_TORCH = """
import sys
import numpy, torch
for folder in sys.argv[1:]:
    program = torch.export.load(f"{folder}/student.pt2").module()
    for i in (0, 1):
        with torch.inference_mode():
            numpy.save(f"{folder}/answers{i}.npy", program(torch.from_numpy(numpy.load(f"{folder}/x{i}.npy"))))
assert not any(name.startswith(("archsearch", "timm")) for name in sys.modules)
"""


def student(space: str, task: ImageTask) -> nn.Module:
    """A student that a training might have left: in train mode, channels last, norm statistics and biases moved."""
    torch.manual_seed(0)
    here = spaces.get(space)
    model = here.build(here.smallest(task), task).to(memory_format=torch.channels_last)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value += 0.1 * torch.rand_like(value)
    return model.train()


def batches(task: ImageTask) -> list[np.ndarray]:
    """Two batches B×H×W×C of other sizes than the one that was traced."""
    rng = np.random.RandomState(0)
    return [rng.randint(0, 256, (size, task.height, task.width, task.in_chans), dtype=np.uint8) for size in (1, 5)]


def answers(model: nn.Module, task: ImageTask, x_BHWC: np.ndarray) -> np.ndarray:
    """What the training's own normalisation makes of it."""
    x_BCHW = torch.from_numpy(x_BHWC).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        found: np.ndarray = network(model.eval(), task)(x_BCHW).numpy()
    return found


@pytest.mark.parametrize(("space", "images"), TRACED)
def test_onnx_answers_as_the_module_does_for_batches_of_any_size(space: str, images: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    task = {"colour": TASK, "gray": GRAY}[images]
    model = student(space, task)
    export.save_onnx(model, task, tmp_path / "student.onnx")
    assert model.training, "the student is left as it was"
    session = runtime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    assert [value.name for value in (*session.get_inputs(), *session.get_outputs())] == ["images", "logits"]
    for x_BHWC in batches(task):
        expected_BK = answers(model, task, x_BHWC)
        (found_BK,) = session.run(None, {"images": x_BHWC})
        assert np.abs(expected_BK).max() > 0.01
        np.testing.assert_allclose(found_BK, expected_BK, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
def test_pt2_is_loaded_by_torch_alone_and_answers_as_the_module_does(tmp_path: Path) -> None:
    images, models = batches(TASK), {name: student(name, TASK) for name in FAMILIES}
    for name, model in models.items():
        (tmp_path / name).mkdir()
        export.save_pt2(model, TASK, tmp_path / name / "student.pt2")
        assert model.training, "the student is left as it was"
        for i, x_BHWC in enumerate(images):
            np.save(tmp_path / name / f"x{i}.npy", x_BHWC)
    command = [sys.executable, "-I", "-c", PLAIN_TORCH, *(str(tmp_path / name) for name in FAMILIES)]
    ran = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for name, model in models.items():
        for i, x_BHWC in enumerate(images):
            found_BK = np.load(tmp_path / name / f"answers{i}.npy")
            np.testing.assert_allclose(found_BK, answers(model, TASK, x_BHWC), atol=TOLERANCE, rtol=TOLERANCE)
