"""From a folder of photos of mixed sizes to a program that names a new photo, by the commands a user gives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from archsearch.cli import app

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 230), "yellow": (230, 220, 40)}
ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "timm", "archsearch", "onnx", "torchvision"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from predict import best, open_student, predict

session, settings = open_student(Path(sys.argv[1]) / sys.argv[2])
files = sorted(Path(sys.argv[3]).rglob("*.*"))
right = sum(best(row, settings)[0][0] in f.parts for f, row in zip(files, predict(session, settings, files)))
print(right, len(files))
"""


def photos(folder: Path, each: int, seed: int) -> None:
    """Discs of four colours before grey clutter, as cameras, scanners and web pages keep them."""
    rng = np.random.RandomState(seed)
    for name, colour in COLOURS.items():
        (folder / name / "some").mkdir(parents=True)
        for i, (suffix, options, mode) in zip(range(each), kinds(), strict=False):
            width, height = rng.randint(40, 140, 2)
            image = Image.fromarray(rng.randint(90, 160, (height, width, 1), dtype=np.uint8).repeat(3, 2))
            x, y = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6)
            radius = min(width, height) * rng.uniform(0.2, 0.35)
            ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
            if mode == "RGBA":
                alpha = Image.new("L", image.size, 0)
                ImageDraw.Draw(alpha).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
                image.putalpha(alpha)
            image.convert(mode).save(folder / name / ("some" if i % 3 else "") / f"{i}.{suffix}", **options)


def kinds() -> Iterator[tuple[str, dict[str, object], str]]:
    """Files of every kind, over and over."""
    turned = Image.Exif()
    turned[0x0112] = 6
    while True:
        yield "jpg", {"quality": 90}, "RGB"
        yield "png", {}, "RGBA"
        yield "jpg", {"exif": turned}, "RGB"
        yield "png", {}, "P"
        yield "jpg", {}, "CMYK"
        yield "webp", {}, "RGB"


def shell(*args: str) -> str:
    return CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False).stdout


@pytest.mark.slow
def test_photos_of_mixed_sizes_become_a_program_that_names_new_ones(tmp_path: Path) -> None:
    """Three commands; the last process knows Pillow, NumPy and ONNX Runtime alone."""
    pytest.importorskip("onnxruntime")
    photos(tmp_path / "photos", 36, 0)
    photos(tmp_path / "new", 12, 1)
    data = ("--data", str(tmp_path / "photos"), "--image-size", "24x32", "--fit", "pad")
    small = ("--model-args", json.dumps({"depths": [1, 1, 1], "widths": [16, 32, 32]}))
    shell("train-teacher", *data, *small, "--epochs", "20", "--set", "batch_size=32", "-o", str(tmp_path / "teacher"))
    budget = ("--params-ratio", "0.5", "--space", "resnet_cifar", "--candidates", "3", "--epochs", "30")
    flags = ("--set", "distill.batch_size=32", "--set", "search.batch_size=16", "--set", "verify=null")
    student = tmp_path / "student"
    made = shell("distill", "-t", str(tmp_path / "teacher"), *data, *budget, *flags, "-o", str(student), "--json")
    accuracy = json.loads(made)["student"]["test_acc"]
    assert accuracy > 60
    right = {}
    for file in ("student.onnx", "student.int8.onnx"):
        command = [sys.executable, "-I", "-c", ALONE, str(student), file, str(tmp_path / "new")]
        ran = subprocess.run(command, text=True, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
        right[file], images = map(int, ran.stdout.split())
        # As often as the student's accuracy says, as far as 48 photos tell.
        assert 100 * right[file] / images > accuracy - 20
    named = json.loads(shell("predict", str(student), str(tmp_path / "new"), "--json"))
    same = sum(Path(one["file"]).relative_to(tmp_path / "new").parts[0] == one["names"][0]["name"] for one in named)
    assert (same, len(named)) == (right["student.onnx"], images)
