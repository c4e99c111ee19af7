"""`archsearch evaluate` as a shell sees it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from archsearch import evaluate, export
from archsearch.cli import app
from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.distill.train import logits
from archsearch.errors import InvalidRequest
from archsearch.spaces import spaces


def invoke(*args: str) -> str:
    result = CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False)
    return result.stdout


@pytest.fixture(scope="module")
def untrained(gray_task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another student of the same task, which knows nothing."""
    folder = tmp_path_factory.mktemp("untrained") / "student"
    space = spaces.get("vit")
    export.save_student(space.build(space.smallest(gray_task), gray_task), gray_task, folder)
    return folder


def test_a_student_stands_beside_its_teacher_and_another(
    teacher_folder: Path, untrained: Path, digits: Dataset, tmp_path: Path
) -> None:
    args = ("evaluate", str(untrained), "-d", "digits", "-t", str(teacher_folder), "-b", str(teacher_folder))
    found = json.loads(invoke(*args, "--json", "-o", str(tmp_path / "out")))
    rows = found["networks"]
    assert list(rows) == ["student", "no_teacher", "teacher"]
    model = export.load_student(untrained)
    expected = accuracy(lambda x: logits(model, digits.task, x), digits.test)
    assert rows["student"]["top1_acc"] == expected
    assert rows["no_teacher"]["agreement"] == 100, "here it is the teacher itself"
    assert rows["student"]["agreement"] < 50
    assert rows["student"]["kl_to_teacher"] > rows["no_teacher"]["kl_to_teacher"] == pytest.approx(0, abs=1e-6)
    assert found["data_sha256"] == digits.sha256
    assert json.loads((tmp_path / "out" / evaluate.EVALUATION).read_text()) == found
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "evaluation.json", "confusion.png", "calibration.png",
    }  # fmt: skip


def test_tables_tell_accuracy_and_where_it_is_weakest(teacher_folder: Path) -> None:
    text = invoke("evaluate", str(teacher_folder), "--data", "digits")
    assert "359 test images" in text
    assert "this student" in text
    assert "most often taken for" in text
    assert "same answer" not in text, "there is no teacher to compare with"
    assert "\x1b" not in text


def test_evaluated_into_its_own_folder_a_student_s_card_tells_it(teacher_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(teacher_folder, tmp_path / "student"))
    found = json.loads(invoke("evaluate", str(folder), "-d", "digits", "-o", str(folder), "--json"))
    assert f"{found['networks']['student']['top1_acc']:.2f} %" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("-t", "tch_" + "0" * 20), "lives in a service"),
        (("-d", "ds_" + "0" * 20), "lives in a service"),
    ],
)
def test_what_only_a_service_has_is_refused(teacher_folder: Path, args: tuple[str, ...], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        invoke("evaluate", str(teacher_folder), "-d", "digits", *args)


def test_networks_of_another_task_are_refused(teacher_folder: Path, gray_task, tmp_path: Path) -> None:
    from dataclasses import replace

    task = replace(gray_task, classes=4, class_names=())
    space = spaces.get("vit")
    export.save_student(space.build(space.smallest(task), task), task, tmp_path / "other")
    with pytest.raises(InvalidRequest, match="other tells 4 classes apart, the data has 10") as caught:
        invoke("evaluate", str(teacher_folder), "-d", "digits", "--baseline", str(tmp_path / "other"))
    assert caught.value.field == "--baseline"
    with pytest.raises(InvalidRequest, match="the student tells 4 classes apart"):
        invoke("evaluate", str(tmp_path / "other"), "-d", "digits")
    large = replace(gray_task, height=16, width=16)
    export.save_student(space.build(space.smallest(large), large), large, tmp_path / "large")
    with pytest.raises(InvalidRequest, match="large takes images of 16×16 pixels, the data's are 8×8") as caught:
        invoke("evaluate", str(teacher_folder), "-d", "digits", "--baseline", str(tmp_path / "large"))
    assert caught.value.field == "--baseline"


def test_classes_called_otherwise_are_refused(teacher_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(teacher_folder, tmp_path / "student"))
    config = json.loads((folder / "config.json").read_text())
    names = [str(k) for k in range(10)]
    (folder / "config.json").write_text(json.dumps({**config, "label_names": [*names[:8], "9", "8"]}))
    with pytest.raises(InvalidRequest, match="class 8 is called '8', the student calls it '9'") as caught:
        invoke("evaluate", str(folder), "-d", "digits")
    assert caught.value.field == "--data"


def test_a_size_no_folder_of_images_can_be_read_in_is_told(gray_task, tmp_path: Path) -> None:
    from dataclasses import replace

    from archsearch.cli.evaluate import open_data

    (tmp_path / "images").mkdir()
    with pytest.raises(InvalidRequest, match=r"a student of 1024×1024 pixels.*image_size") as caught:
        open_data(str(tmp_path / "images"), replace(gray_task, height=1024, width=1024))
    assert caught.value.field == "--data"
