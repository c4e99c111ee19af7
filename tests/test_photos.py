"""Names for new photos: whichever of a student's files is asked, and however the photo lies."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import archsearch
from archsearch import export
from archsearch.cli import app
from archsearch.data import Dataset
from archsearch.distill.train import logits
from archsearch.domains.images.photo import probabilities, read
from archsearch.domains.images.task import ImageTask
from archsearch.errors import DataError, InvalidRequest, UnknownName
from archsearch.spaces import spaces


@pytest.fixture(scope="module")
def student(teacher_folder: Path, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights and the programs of a network that tells digits apart."""
    folder = tmp_path_factory.mktemp("predict") / "student"
    model = export.load_student(teacher_folder)
    export.save_student(model, digits.task, folder)
    export.save_pt2(model, digits.task, folder / export.PT2)
    export.save_onnx(model, digits.task, folder / export.ONNX)
    return folder


@pytest.fixture(scope="module")
def photos(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first test digits as files: one upright, one on its side with EXIF to say so, one half transparent, …"""
    folder = tmp_path_factory.mktemp("photos")
    for row in range(6):
        Image.fromarray(digits.test.x_NHWC[row, :, :, 0]).save(folder / f"{row}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(folder / "1.png") as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(folder / "1.png", exif=exif)
    with Image.open(folder / "2.png") as grey:
        coloured = grey.convert("RGBA")
    coloured.save(folder / "2.png")
    return folder


@pytest.fixture(scope="module")
def expected(student: Path, digits: Dataset) -> list[tuple[str, float]]:
    """What the network says of the very pixels."""
    with torch.inference_mode():
        logits_NK = logits(export.load_student(student), digits.task, digits.test.images()[:6].float() / 255)
    chances_NK = probabilities(logits_NK.numpy(), "classification")
    return [(str(row.argmax()), float(row.max())) for row in chances_NK]


@pytest.mark.parametrize("form", ["auto", "onnx", "pt2", "torch"])
def test_every_file_of_a_student_names_photos_as_the_network_names_their_pixels(
    student: Path, photos: Path, expected: list[tuple[str, float]], form: str
) -> None:
    pytest.importorskip("onnxruntime")
    found = archsearch.predict(student, photos, form=form)  # type: ignore[arg-type]
    assert [Path(one.file).name for one in found] == [f"{row}.png" for row in range(6)]
    for one, (name, chance) in zip(found, expected, strict=True):
        assert (one.names[0][0], len(one.names)) == (name, 3)
        assert one.names[0][1] == pytest.approx(chance, abs=1e-4)


def test_files_folders_and_zips_are_named_in_order(student: Path, photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.write(photos / "3.png", "in/3.png")
        archive.writestr("in/notes.txt", "no image")
    told: list[tuple[int, int]] = []
    given = [photos / "5.png", tmp_path / "some.zip", str(photos / "0.png")]
    found = archsearch.predict(student, given, top=1, listener=lambda *at: told.append(at))
    assert [one.file for one in found] == [str(photos / "5.png"), str(tmp_path / "some.zip/in/3.png"), given[2]]
    assert told == [(3, 3)]


def test_a_broken_image_is_named_and_the_others_go_on(student: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes((photos / "0.png").read_bytes()[:40])
    run = CliRunner().invoke(app, ["predict", str(student), str(tmp_path / "broken.png"), str(photos / "0.png")])
    assert isinstance(run.exception, DataError), "which ends the shell's command with 1"
    assert run.exception.detail == "1 of 2 images could not be read"
    assert "broken.png: is damaged or no image" in run.stderr
    assert run.stdout.startswith(f"{photos / '0.png'}: ")


def test_what_cannot_be_read_of_a_folder_is_named_and_left_out(student: Path, photos: Path, tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"0.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes((photos / "0.png").read_bytes())
    (tmp_path / "out.png").symlink_to(photos / "1.png")
    run = CliRunner().invoke(app, ["predict", str(student), str(tmp_path)])
    assert isinstance(run.exception, DataError)
    assert run.exception.detail == "2 of 3 images could not be read"
    assert r"caf\udce9.png: its name is no UTF-8; rename it" in run.stderr
    assert "out.png: is a symbolic link" in run.stderr
    assert run.stdout.startswith(f"{tmp_path / '0.png'}: ")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    (row,) = json.loads(CliRunner().invoke(app, ["predict", str(student), odd, "--json"]).stdout)
    assert (row["file"], row["error"]) == (f"{tmp_path}/caf\\udce9.png", None)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_no_program_of_a_student_guesses_the_scale_of_32_bits(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=dtype).reshape(8, 8)).save(tmp_path / "deep.tif")
    settings = {"height": 8, "width": 8, "channels": 1, "fit": "crop"}
    with pytest.raises(ValueError, match="holds pixels of 32 bits"):
        read(tmp_path / "deep.tif", settings)


def test_the_shell_prints_json(student: Path, photos: Path, expected: list[tuple[str, float]]) -> None:
    run = CliRunner().invoke(app, ["predict", str(student), str(photos), "--top", "2", "--json"])
    rows = json.loads(run.stdout)
    assert [row["names"][0]["name"] for row in rows] == [name for name, _ in expected]
    assert {len(row["names"]) for row in rows} == {2}
    assert rows[0]["error"] is None


def test_many_labels_are_told_by_a_threshold(gray_task: ImageTask, photos: Path, tmp_path: Path) -> None:
    many, space = replace(gray_task, kind="multilabel"), spaces.get("vit")
    model = space.build(space.smallest(many), many)
    export.save_student(model, many, tmp_path)
    (all_of_them,) = archsearch.predict(tmp_path, photos / "0.png", threshold=0.0, form="torch")
    chances = [chance for _, chance in all_of_them.names]
    assert sorted(name for name, _ in all_of_them.names) == list("0123456789")
    assert chances == sorted(chances, reverse=True)
    (some,) = archsearch.predict(tmp_path, photos / "0.png", threshold=chances[3], form="torch")
    assert some.names == all_of_them.names[:4]


def test_programs_of_earlier_versions_are_told_and_the_weights_asked(
    student: Path, photos: Path, expected: list[tuple[str, float]], tmp_path: Path
) -> None:
    """They took normalised floats, and nothing in them said so."""
    onnx = pytest.importorskip("onnx")
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((student / name).read_bytes())
    model = onnx.load(student / "student.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "student.onnx")
    with pytest.raises(InvalidRequest, match="does not say how photos are read"):
        archsearch.predict(tmp_path, photos, form="onnx")
    assert [one.names[0][0] for one in archsearch.predict(tmp_path, photos)] == [name for name, _ in expected]


def test_what_is_not_there_is_told(student: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"has no student\.int8\.onnx; `archsearch export"):
        archsearch.predict(student, photos, form="int8")
    with pytest.raises(UnknownName, match="did you mean 'onnx'"):
        archsearch.predict(student, photos, form="onxn")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="there is no file or folder"):
        archsearch.predict(student, tmp_path / "nothing.png")
    with pytest.raises(InvalidRequest, match="holds no image"):
        archsearch.predict(student, tmp_path)
    with pytest.raises(InvalidRequest, match=r"has no model\.safetensors"):
        archsearch.predict(tmp_path, photos)


def test_naming_by_onnx_imports_no_torch(student: Path, photos: Path) -> None:
    pytest.importorskip("onnxruntime")
    code = (
        "import sys, archsearch\n"
        f"archsearch.predict({str(student)!r}, {str(photos)!r}, form='onnx')\n"
        "print([name for name in ('torch', 'timm') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_photo_is_read_alike_in_training_and_afterwards(tmp_path: Path) -> None:
    """Mean differences of 71 and 128 of 255 there were for EXIF and transparency, and of 23 for odd sizes."""
    from archsearch.data import Limits
    from archsearch.domains.images import load_image_folder, photo
    from archsearch.domains.images.images import decode
    from archsearch.domains.images.preprocessing import Preprocessing

    rng = np.random.RandomState(0)
    for i, (mode, size) in enumerate((("RGB", (33, 20)), ("RGBA", (21, 47)), ("L", (50, 50)), ("P", (17, 18)))):
        exif = Image.Exif()
        exif[0x0112] = 1 + i
        noise = Image.fromarray(rng.randint(0, 256, (*size, 4), dtype=np.uint8), "RGBA").resize((90, 60))
        for name in ("a", "b", "c"):
            (tmp_path / name).mkdir(exist_ok=True)
            noise.convert(mode).save(tmp_path / name / f"{i}.png", exif=exif)
    for fit in ("crop", "pad", "stretch"):
        dataset = load_image_folder(tmp_path, (16, 24), fit=fit, duplicates="warn")
        settings = Preprocessing.of(dataset.task).fields()
        files = sorted(tmp_path.rglob("*.png"))
        trained = {x.tobytes() for s in (dataset.train, dataset.selection, dataset.test) for x in s.x_NHWC}
        assert {photo.read(file, settings).tobytes() for file in files} == trained
        data = io.BytesIO(files[1].read_bytes())
        again = decode("x", data.getvalue(), (16, 24), Limits(), fit, channels=3)
        assert again.tobytes() == photo.read(data, settings).tobytes()
