"""`archsearch evaluate` as a shell sees it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from archsearch import evaluate, export, train_teacher
from archsearch.cli import app
from archsearch.cli.evaluate import open_data
from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.distill.train import logits
from archsearch.domains.images import load_npz
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


def renamed(folder: Path, to: Path, names: list[str]) -> Path:
    """A copy of a student whose classes are called otherwise."""
    copy = Path(shutil.copytree(folder, to))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "label_names": names}))
    return copy


def test_classes_called_otherwise_are_refused(teacher_folder: Path, tmp_path: Path) -> None:
    folder = renamed(teacher_folder, tmp_path / "student", [*map(str, range(8)), "eight", "9"])
    with pytest.raises(InvalidRequest, match="the student knows no class '8', and has 'eight' instead") as caught:
        invoke("evaluate", str(folder), "-d", "digits")
    assert caught.value.field == "--data"


def test_the_same_classes_in_another_order_are_matched_by_name(teacher_folder: Path, tmp_path: Path) -> None:
    """The student was trained on classes 0 to 9; called 9 to 0, all its right answers are wrong ones of known names."""
    folder = renamed(teacher_folder, tmp_path / "student", [str(9 - k) for k in range(10)])
    own = json.loads(invoke("evaluate", str(teacher_folder), "-d", "digits", "--json"))["networks"]["student"]
    result = CliRunner().invoke(
        app, ["evaluate", str(folder), "-d", "digits", "-b", str(teacher_folder), "--json"], standalone_mode=False
    )
    rows = json.loads(result.stdout)["networks"]
    assert rows["student"]["top1_acc"] < 20
    assert rows["no_teacher"]["top1_acc"] == own["top1_acc"], "its names are the data's, in the data's order"
    assert "another order; its labels were matched by name" in result.stderr


@pytest.fixture
def held_out(digits: Dataset, tmp_path: Path) -> Path:
    """The digits' test split alone."""
    np.savez(tmp_path / "held_out.npz", x_test=digits.test.x_NHWC, y_test=digits.test.y_N)
    return tmp_path / "held_out.npz"


def measured(*args: str) -> tuple[dict[str, Any], str]:
    result = CliRunner().invoke(app, ["evaluate", *args, "--json"], catch_exceptions=False, standalone_mode=False)
    found = json.loads(result.stdout)
    return {**found["networks"]["student"], "split": found["split"]}, result.stderr


def test_data_that_is_all_test_is_measured_whole(teacher_folder: Path, held_out: Path, digits: Dataset) -> None:
    found, said = measured(str(teacher_folder), "-d", str(held_out))
    assert (found["images"], found["split"]) == (359, "test")
    assert "note" not in said
    assert found["top1_acc"] == measured(str(teacher_folder), "-d", "digits")[0]["top1_acc"]


def test_data_given_as_a_whole_is_measured_whole_and_it_is_said(
    teacher_folder: Path, digits: Dataset, tmp_path: Path
) -> None:
    """A thousand held-out images used to be split again, and two hundred of them measured."""
    np.savez(tmp_path / "all.npz", x_train=digits.train.x_NHWC[:1000], y_train=digits.train.y_N[:1000])
    found, said = measured(str(teacher_folder), "-d", str(tmp_path / "all.npz"))
    assert (found["images"], found["split"]) == (1000, "all")
    assert "all 1,000 images are measured; none are held out: --split test takes the 199" in said
    found, _ = measured(str(teacher_folder), "-d", str(tmp_path / "all.npz"), "--split", "test")
    assert (found["images"], found["split"]) == (199, "test")
    digits_, said = measured(str(teacher_folder), "-d", "digits", "--split", "all")
    assert (digits_["images"], digits_["split"]) == (1797, "all")


def test_of_the_data_a_student_learned_from_its_held_out_images_are_measured(
    teacher_folder: Path, digits: Dataset, tmp_path: Path
) -> None:
    folder, path = Path(shutil.copytree(teacher_folder, tmp_path / "student")), tmp_path / "all.npz"
    np.savez(path, x_train=digits.train.x_NHWC, y_train=digits.train.y_N, class_names=list("0123456789"))
    (folder / "manifest.json").write_text(json.dumps({"data": {"sha256": load_npz(path).sha256}}))
    found, said = measured(str(folder), "-d", str(path))
    assert (found["images"], found["split"]) == (len(load_npz(path).test), "test")
    assert "the network learned from this data" in said


def with_copies(digits: Dataset, path: Path) -> Path:
    """Training images alone, fifty of them twice."""
    x_NHWC, y_N = digits.train.x_NHWC[:400], digits.train.y_N[:400]
    x_train, y_train = np.concatenate([x_NHWC, x_NHWC[:50]]), np.concatenate([y_N, y_N[:50]])
    np.savez(path, x_train=x_train, y_train=y_train, class_names=list("0123456789"))
    return path


def test_a_student_of_data_without_its_copies_is_measured_on_what_was_held_out_of_it(
    teacher_folder: Path, digits: Dataset, tmp_path: Path
) -> None:
    path = with_copies(digits, tmp_path / "copies.npz")
    learned = load_npz(path, duplicates="drop")
    folder = Path(shutil.copytree(teacher_folder, tmp_path / "student"))
    (folder / "manifest.json").write_text(json.dumps({"data": {"sha256": learned.sha256}}))
    for flags in ((), ("--split", "test")):
        found, _ = measured(str(folder), "-d", str(path), *flags)
        assert (found["images"], found["split"]) == (len(learned.test), "test")
    opened, _ = open_data(str(path), export.load_task(folder), folder=folder)
    assert opened.dataset.test.x_NHWC.tobytes() == learned.test.x_NHWC.tobytes()
    assert opened.dataset.sha256 == learned.sha256


def test_a_teacher_trained_here_is_measured_on_what_was_held_out(digits: Dataset, tmp_path: Path) -> None:
    """Its folder is as timm saves it, and has no manifest: `training.json` tells what it learned from."""
    path, out = with_copies(digits, tmp_path / "copies.npz"), tmp_path / "teacher"
    args = {"widths": [4, 4, 8], "depths": [1, 1, 1]}
    trained = train_teacher({"kind": "npz", "path": str(path)}, out, model_args=args, spec={"epochs": 1})
    found, said = measured(str(out), "-d", str(path))
    assert (found["images"], found["split"]) == (len(load_npz(path).test), "test")
    assert found["top1_acc"] == pytest.approx(trained["test_acc"])
    assert "the network learned from this data" in said


def test_a_split_nobody_gave_is_refused(teacher_folder: Path, held_out: Path) -> None:
    with pytest.raises(InvalidRequest, match="has no selection split"):
        invoke("evaluate", str(teacher_folder), "-d", str(held_out), "--split", "selection")


def test_a_folder_of_some_classes_is_measured_by_their_names(
    teacher_folder: Path, digits: Dataset, tmp_path: Path
) -> None:
    """Only sevens and threes: numbered by folder they would be classes 0 and 1."""
    rows = np.flatnonzero(np.isin(digits.test.y_N, (3, 7)))
    for row in rows:
        folder = tmp_path / "images" / str(digits.test.y_N[row])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.test.x_NHWC[row, :, :, 0]).save(folder / f"{row}.png")
    found, said = measured(str(teacher_folder), "-d", str(tmp_path / "images"))
    assert (found["images"], found["split"]) == (len(rows), "all")
    assert found["top1_acc"] > 80
    assert "2 of the network's 10 classes" in said


def test_a_size_no_folder_of_images_can_be_read_in_is_told(gray_task, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "images").mkdir()
    with pytest.raises(InvalidRequest, match=r"as images of 8192×8192 pixels: .*image_size") as caught:
        open_data(str(tmp_path / "images"), replace(gray_task, height=8192, width=8192))
    assert caught.value.field == "--data"


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_data_without_labels_measure_nothing(untrained: Path, digits: Dataset, tmp_path: Path, command: str) -> None:
    np.savez(tmp_path / "none.npz", x_unlabelled=digits.test.pixels(slice(0, 20)))
    with pytest.raises(InvalidRequest, match="no image has a label to measure answers by") as caught:
        invoke(command, str(untrained), "--data", str(tmp_path / "none.npz"), "--out", str(tmp_path / "out"))
    assert caught.value.field == "--data"
