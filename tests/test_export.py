"""The student as files: loads bit for bit, and of stock families without a line of our code."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from archsearch import export
from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.spaces import Recipe, of_domain, spaces

# B batch, C channels, H W space, K classes

# Run outside the checkout with -I: no current directory, no environment, and a finder that refuses our package.
PLAIN_TIMM = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "archsearch":
            raise ImportError("archsearch is not installed here")

sys.meta_path.insert(0, Refuse())
try:
    import archsearch
    raise SystemExit("archsearch could be imported")
except ImportError:
    pass

import numpy, timm, torch
for folder in sys.argv[1:]:
    model = timm.create_model("local-dir:" + folder, pretrained=True).eval()
    with torch.inference_mode():
        answers = model(torch.from_numpy(numpy.load(folder + "/x.npy")))
    numpy.save(folder + "/answers.npy", answers.numpy())
assert not any(name.startswith("archsearch") for name in sys.modules)
"""


COLOUR = ImageTask(100, 3, 32, 32, (0.5,) * 3, (0.25,) * 3)


def student(space: str, task: ImageTask, **changes: int) -> torch.nn.Module:
    """A student that a training might have left: channels last, norm statistics and biases moved."""
    here = spaces.get(space)
    torch.manual_seed(0)
    model = here.build({**here.smallest(task), **changes}, task).to(memory_format=torch.channels_last)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value += 0.1 * torch.rand_like(value)
    return model.eval()


@pytest.fixture(params=[space.name for space in of_domain("image_classification")])
def space(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["gray_task", "colour_task"])
def task(request: pytest.FixtureRequest) -> ImageTask:
    return request.getfixturevalue(request.param)


def test_a_student_comes_back_bit_for_bit(space: str, task: ImageTask, tmp_path: Path) -> None:
    model = student(space, task)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export.save_student(model, task, tmp_path / "student")
    again = export.load_student(tmp_path / "student")
    assert not again.training
    assert again.state_dict().keys() == before.keys()
    assert all(value.equal(before[name]) for name, value in again.state_dict().items())
    x_BCHW = torch.rand(3, task.in_chans, task.height, task.width)
    with torch.inference_mode():
        assert again(x_BCHW).equal(model(x_BCHW.contiguous()))


def test_the_config_says_what_the_student_wants_and_nothing_of_another_origin(
    space: str, task: ImageTask, tmp_path: Path
) -> None:
    export.save_student(student(space, task), task, tmp_path)
    config = export.load_config(tmp_path)
    pretrained = config["pretrained_cfg"]
    assert config["num_classes"] == pretrained["num_classes"] == task.classes
    assert pretrained["input_size"] == [task.in_chans, task.height, task.width]
    assert pretrained["mean"] == list(task.mean)
    assert pretrained["std"] == list(task.std)
    assert (pretrained["tag"], pretrained["license"]) == ("archsearch", "other")
    origin = {"url", "file", "hf_hub_id", "hf_hub_filename", "origin_url", "paper_ids", "paper_name", "source"}
    assert not origin & pretrained.keys()
    text = (tmp_path / "config.json").read_text()
    assert not [word for word in ("augreg", "imagenet", "timm/", "http", "apache", "1000") if word in text.lower()]


def test_class_names_travel_with_the_student(gray_task: ImageTask, colour_task: ImageTask, tmp_path: Path) -> None:
    export.save_student(student("vit", gray_task), gray_task, tmp_path / "named")
    assert export.load_config(tmp_path / "named")["label_names"] == list("0123456789")
    export.save_student(student("vit", colour_task), colour_task, tmp_path / "unnamed")
    assert not export.load_config(tmp_path / "unnamed").get("label_names")


def test_weights_are_safetensors_and_nothing_is_pickled(gray_task: ImageTask, tmp_path: Path) -> None:
    export.save_student(student("vit", gray_task), gray_task, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.safetensors", "config.json", "preprocessing.json", "predict.py",
    }  # fmt: skip
    assert load_file(tmp_path / "model.safetensors")


@pytest.mark.slow
def test_stock_students_load_with_plain_timm_where_archsearch_is_not_to_be_had(
    colour_task: ImageTask, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """Acceptance: same answers, from a folder and timm alone."""
    models = {
        space.name: student(space.name, colour_task)
        for space in of_domain("image_classification")
        if space.stock(COLOUR)
    }
    x_BCHW = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name, model in models.items():
        export.save_student(model, colour_task, tmp_path / name)
        np.save(tmp_path / name / "x.npy", x_BCHW.numpy())
    command = [sys.executable, "-I", "-c", PLAIN_TIMM, *(str(tmp_path / name) for name in models)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for name, model in models.items():
        with subtests.test(space=name), torch.inference_mode():
            expected_BK = model(x_BCHW).numpy()
            assert np.abs(expected_BK).max() > 0.01
            np.testing.assert_allclose(np.load(tmp_path / name / "answers.npy"), expected_BK, atol=1e-5, rtol=0)


def test_the_manifest_says_versions_machine_and_how_to_load(tmp_path: Path) -> None:
    def manifest(space: str) -> dict[str, Any]:
        model = Recipe(space, stock=space == "vit")
        path = export.write_manifest(tmp_path / space, {"student": {"test_acc": 98.5}}, model)
        return json.loads(path.read_text())

    stock, own = manifest("vit"), manifest("resnet_cifar")
    assert stock["student"] == {"test_acc": 98.5}
    assert stock["loads_with"] == "timm"
    assert "archsearch" in own["loads_with"]
    assert stock["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(stock["versions"]) >= {"python", "archsearch", "timm", "optuna", "numpy", "safetensors"}
    assert stock["machine"]["device"] == "cpu"


def test_a_packed_student_loads_from_its_zip(gray_task: ImageTask, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    export.save_student(student("vit", gray_task), gray_task, folder)
    export.write_manifest(folder, {}, Recipe("vit"))
    with zipfile.ZipFile(export.pack(folder)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unpacked")
    again = export.load_student(tmp_path / "unpacked" / "student").state_dict()
    assert all(value.equal(again[name]) for name, value in load_file(folder / "model.safetensors").items())


def test_every_public_file_has_a_media_type_and_its_archive_too() -> None:
    assert export.MEDIA_TYPES.keys() == {*export.PUBLIC, export.ARCHIVE}
    # Starlette would add the character set to text, and the header would no longer be what the artifact says.
    assert export.MEDIA_TYPES[export.CARD] == "text/markdown; charset=utf-8"


@pytest.mark.slow
def test_the_portable_forms_need_none_of_our_code(gray_task: ImageTask, tmp_path: Path) -> None:
    export.save_pt2(student("vit", gray_task), gray_task, tmp_path / export.PT2)
    export.save_onnx(student("vit", gray_task), gray_task, tmp_path / export.ONNX)
    assert {path.name for path in tmp_path.iterdir()} == {"student.pt2", "student.onnx"}


def test_a_task_comes_back_from_the_folder(gray_task: ImageTask, tmp_path: Path) -> None:
    export.save_student(student("vit", gray_task), gray_task, tmp_path / "digits")
    # Shares of the classes are kept where they are uneven.
    assert export.load_task(tmp_path / "digits") == replace(gray_task, prevalence=())
    many = replace(gray_task, kind="multilabel")
    export.save_student(student("vit", many), many, tmp_path / "many")
    assert export.load_task(tmp_path / "many").kind == "multilabel"
    assert export.load_student(tmp_path / "many").num_classes == 10


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda config: config.pop("pretrained_cfg"), "not one timm wrote"),
        (lambda config: config["pretrained_cfg"].update(input_size=[3, 8]), "not one timm wrote"),
        (lambda config: config["pretrained_cfg"].update(mean=[0.5] * 3), "3 means for 1 channels"),
    ],
)
def test_a_folder_of_something_else_is_refused(gray_task: ImageTask, tmp_path: Path, change: Any, told: str) -> None:
    export.save_student(student("vit", gray_task), gray_task, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidRequest, match=told):
        export.load_task(tmp_path)


@pytest.mark.parametrize("wrong", ["architecture", "tensors", "bytes"])
def test_a_folder_timm_cannot_load_is_named(gray_task: ImageTask, tmp_path: Path, wrong: str) -> None:
    from safetensors.torch import load_file, save_file

    space, weights = spaces.get("vit"), tmp_path / export.WEIGHTS
    export.save_student(space.build(space.smallest(gray_task), gray_task), gray_task, tmp_path)
    if wrong == "architecture":
        config = {**export.load_config(tmp_path), "architecture": "vit_no_such"}
        (tmp_path / export.CONFIG).write_text(json.dumps(config))
    elif wrong == "tensors":
        save_file({name: torch.zeros(3) for name in load_file(weights)}, weights)
    else:
        weights.write_bytes(b"no weights at all")
    with pytest.raises(InvalidRequest, match="holds no student timm can load") as caught:
        export.load_student(tmp_path)
    assert str(tmp_path) in caught.value.detail


def test_only_public_files_are_packed(gray_task: ImageTask, tmp_path: Path) -> None:
    export.save_student(student("vit", gray_task), gray_task, tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not for others")
    with zipfile.ZipFile(export.pack(tmp_path)) as archive:
        names = ("model.safetensors", "config.json", "preprocessing.json", "predict.py")
        assert archive.namelist() == [f"student/{name}" for name in names]


def test_a_manifest_names_every_file_with_its_hash_and_the_machine(gray_task: ImageTask, tmp_path: Path) -> None:
    export.save_student(student("vit", gray_task), gray_task, tmp_path)
    story = {
        "request": {
            "kind": "distill", "teacher": {"kind": "timm", "name": "resnet18"}, "data": {"kind": "digits"},
            "search": {"precision": "fp32"}, "distill": {"precision": "fp32", "seed": 3},
        },
        "search": {"seconds": 2.0, "candidates_scored": 4, "spaces": ["vit"]},
        "student": {"seconds": 5.0, "export": {"seconds": 1.0}, "space": "vit", "architecture": {}, "method": "kd"},
    }  # fmt: skip
    manifest = json.loads(export.write_manifest(tmp_path, story, Recipe("vit")).read_text())
    assert set(manifest["files"]) == {
        "model.safetensors",
        "config.json",
        "preprocessing.json",
        "predict.py",
        "README.md",
    }
    for name, file in manifest["files"].items():
        content = (tmp_path / name).read_bytes()
        assert file == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest["seconds"] == {"search": 2.0, "distill": 5.0, "export": 1.0}
    machine = manifest["machine"]
    assert (machine["threads"], machine["search_precision"]) == (torch.get_num_threads(), "fp32")
    assert machine["processor"]
    # Written again from itself, it says the same: the card has not changed by being read.
    export.refresh(tmp_path)
    assert export.read_manifest(tmp_path) == manifest


def test_a_damaged_manifest_is_told(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InvalidRequest, match="is damaged"):
        export.read_manifest(tmp_path)


def test_a_folder_of_an_earlier_version_learns_how_photos_are_read(gray_task: ImageTask, tmp_path: Path) -> None:
    """It had neither statement nor program; its photos were cropped, as `crop_mode` says."""
    export.save_student(student("vit", gray_task), gray_task, tmp_path)
    for name in (export.PREPROCESSING, export.PROGRAM):
        (tmp_path / name).unlink()
    assert export.load_task(tmp_path).fit == "crop"
    export.refresh(tmp_path)
    settings = json.loads((tmp_path / export.PREPROCESSING).read_text())
    assert (settings["fit"], settings["labels"], settings["channels"]) == ("crop", list("0123456789"), 1)
    assert (tmp_path / export.PROGRAM).is_file()


@pytest.mark.parametrize(("fit", "mode"), [("crop", "center"), ("pad", "border"), ("stretch", "squash")])
def test_timm_s_own_transform_sizes_photos_as_the_student_s(
    gray_task: ImageTask, tmp_path: Path, fit: Any, mode: str
) -> None:
    """As nearly as its words allow: of a photo in three colours without EXIF or transparency, within a few levels."""
    from PIL import Image
    from timm.data import create_transform, resolve_model_data_config

    from archsearch.domains.images import photo

    task = replace(gray_task, in_chans=3, height=16, width=16, mean=(1.0,) * 3, std=(0.5,) * 3, fit=fit)
    export.save_student(student("vit", task), task, tmp_path)
    assert export.load_task(tmp_path).fit == fit
    assert export.load_config(tmp_path)["pretrained_cfg"]["crop_mode"] == mode
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (48, 1))] * 3, axis=2))
    transform = create_transform(**resolve_model_data_config(export.load_student(tmp_path)))
    theirs = (np.asarray(transform(image)).transpose(1, 2, 0) * 0.5 + 1) * 255
    ours = np.asarray(photo.fitted(image, 16, 16, fit)).astype(float)
    assert np.abs(theirs - ours).max() < 12
