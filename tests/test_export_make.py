"""Every format of a student: held against the fp32 weights before it is kept, and told as it was measured."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from archsearch import evaluate, export
from archsearch.data import Dataset, Limits
from archsearch.data.metrics import METRICS, accuracy
from archsearch.distill.train import logits
from archsearch.domains.image_classification import DOMAIN
from archsearch.domains.images.images import decode
from archsearch.domains.images.preprocessing import Preprocessing
from archsearch.domains.images.task import ImageSplit, ImageTask
from archsearch.errors import ExportError, InvalidRequest, UnknownName
from archsearch.export import Formats, format, make
from archsearch.export.format import Subject, formats, reference
from archsearch.export.formats import int8
from archsearch.export.formats.onnx import open_onnx, save_onnx
from archsearch.export.from_file import measure_from_file
from archsearch.spaces import Recipe

# N images, B batch, C channels, H W space, K classes

pytest.importorskip("onnxruntime")
# What save_student leaves.
SAVED = {"model.safetensors", "config.json", "preprocessing.json", "predict.py", "training.json"}
FILES = {"onnx": "student.onnx", "pt2": "student.pt2", "int8": "student.int8.onnx"}


@pytest.fixture(scope="module")
def made(teacher_folder: Path, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Formats]:
    """All formats of a network that really tells digits apart, and its folder."""
    folder = tmp_path_factory.mktemp("made") / "student"
    shutil.copytree(teacher_folder, folder)
    return folder, export.make_formats(folder, digits.task, digits.selection)


@pytest.fixture(scope="module")
def examined(made: tuple[Path, Formats], digits: Dataset, teacher) -> tuple[export.Examined, list[tuple[int, int]]]:
    reports: list[tuple[int, int]] = []
    folder, found = made
    others = {"teacher": teacher.logits}
    seen = export.examine(folder, found, digits, digits.task, others, listener=lambda *at: reports.append(at))
    return seen, reports


def test_every_format_is_there_and_nothing_on_the_way_to_it(made: tuple[Path, Formats]) -> None:
    folder, found = made
    assert [one.name for one in found.made] == ["safetensors", "int8", "onnx", "pt2"]
    assert {path.name for path in folder.iterdir()} == {*SAVED, *FILES.values()}
    assert found.missing == {}
    assert (found.held_out, found.images, found.judge.key) == ("selection", 269, "acc")


def test_exact_formats_agree_and_int8_says_what_it_costs(made: tuple[Path, Formats]) -> None:
    parities = {one.name: one.parity for one in made[1].made}
    assert parities["safetensors"] == export.Parity(0, parities["onnx"].largest_logit, 100, 0)
    for name in ("onnx", "pt2"):
        assert 0 <= parities[name].max_abs_diff < 1e-4
        assert parities[name].agreement == 100
    assert parities["int8"].max_abs_diff > 1e-3, "eight bits cannot agree to five digits"
    assert parities["int8"].agreement >= 97
    assert parities["int8"].kl < 0.01


def test_formats_answer_as_the_student_does_whatever_the_batch(made: tuple[Path, Formats], digits: Dataset) -> None:
    folder, found = made
    model = export.load_student(folder)
    x_BCHW = digits.test.images()[:7].float() / 255
    with torch.inference_mode():
        expected_BK = logits(model, digits.task, x_BCHW)
        for one in found.made:
            if one.name != "int8":
                network = one.network()
                torch.testing.assert_close(network(x_BCHW), expected_BK, atol=1e-4, rtol=0)
                torch.testing.assert_close(network(x_BCHW[:1]), expected_BK[:1], atol=1e-4, rtol=0)


def test_int8_takes_the_calibration_that_changes_the_answers_least(made: tuple[Path, Formats]) -> None:
    (small,) = [one for one in made[1].made if one.name == "int8"]
    tried = small.details["tried"]
    assert {attempt["calibration"] for attempt in tried} == {"minmax", "entropy", "percentile"}
    best = min(tried, key=lambda attempt: attempt["kl"])
    assert (small.details["calibration"], small.details["kept_fp32"]) == (best["calibration"], list(best["kept_fp32"]))
    # Half of the images set the scales, and the other half judged them.
    assert (small.details["images"], small.details["judged_on"]) == (135, 134)


def test_int8_is_smaller_and_quantises_every_product(made: tuple[Path, Formats]) -> None:
    import onnx

    folder, found = made
    assert (folder / FILES["int8"]).stat().st_size < 0.6 * (folder / FILES["onnx"]).stat().st_size
    graph = onnx.load(folder / FILES["int8"]).graph
    products = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    quantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    (small,) = [one for one in found.made if one.name == "int8"]
    assert len(products) > 5
    assert all(node.input[1] in quantised for node in products if node.name not in small.details["kept_fp32"])
    scales = {value.name: value for value in graph.initializer}
    per_channel = [
        len(scales[node.input[1]].dims) and scales[node.input[1]].dims[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.output[0] in {product.input[1] for product in products}
    ]
    assert max(per_channel) > 1, "weights have a scale for each channel"


@pytest.mark.parametrize("name", ["student.onnx", "student.int8.onnx", "student.pt2"])
def test_no_file_tells_where_it_was_made(made: tuple[Path, Formats], name: str) -> None:
    content = (made[0] / name).read_bytes()
    assert b"/archsearch/" not in content
    assert b"site-packages" not in content


def test_the_batch_of_onnx_has_a_name(made: tuple[Path, Formats]) -> None:
    import onnx

    graph = onnx.load(made[0] / FILES["onnx"]).graph
    sizes = [[dim.dim_param or dim.dim_value for dim in v.type.tensor_type.shape.dim] for v in graph.input]
    assert sizes == [["batch", 8, 8, 1]]
    assert [dim.dim_param for dim in graph.output[0].type.tensor_type.shape.dim] == ["batch", ""]


def test_latencies_are_quartiles_of_one_image(made: tuple[Path, Formats]) -> None:
    for one in made[1].made:
        assert 0 < one.latency.low_ms <= one.latency.median_ms <= one.latency.high_ms < 50
    assert torch.get_num_threads() == 1  # as tests set it; timing has put it back


def test_the_test_split_is_read_once_for_everything(examined, digits: Dataset) -> None:
    seen, reports = examined
    assert reports == [(256, 359), (359, 359)]
    assert set(seen.scores) == {"safetensors", "int8", "onnx", "pt2", "teacher"}
    assert seen.scores["safetensors"] == seen.scores["onnx"] == seen.scores["teacher"] > 50
    assert seen.scores["safetensors"] - seen.scores["int8"] <= 2


def test_the_student_is_scored_as_everywhere_else(examined, made: tuple[Path, Formats], digits: Dataset) -> None:
    model = export.load_student(made[0])
    expected = accuracy(lambda x: logits(model, digits.task, x), digits.test)
    assert examined[0].scores["safetensors"] == expected


def test_the_report_holds_what_was_measured(examined, made: tuple[Path, Formats], digits: Dataset) -> None:
    folder, found = made
    report = json.loads((folder / "report.json").read_text())
    assert report == json.loads(json.dumps(examined[0].report))
    assert list(report["formats"]) == [one.name for one in found.made]
    for one in found.made:
        row = report["formats"][one.name]
        assert row["bytes"] == (folder / row["file"]).stat().st_size
        assert row["max_abs_diff"] == one.parity.max_abs_diff
        assert row["latency_ms"] == one.latency.median_ms
        assert row["test_acc"] == examined[0].scores[one.name]
        assert row["points_lost"] == examined[0].scores["safetensors"] - row["test_acc"]
        assert row["held_out"] == {"split": "selection", "images": 269}
        assert row["machine"]["processor"]
    assert report["test"] == {"images": 359, "data_sha256": digits.sha256}
    brief = export.brief(report)
    assert brief["int8"].keys() == {"bytes", "max_abs_diff", "agreement", "test_acc", "points_lost", "latency_ms"}
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert list(evaluation["networks"]) == ["student", "teacher"]
    assert evaluation["networks"]["student"]["agreement"] == 100, "here the student is its own teacher"


def reported_without_data(folder: Path, found: Formats, metric: str = "acc") -> dict[str, Any]:
    """What an export without data writes over a report: parity on noise, no scores, and no int8."""
    exact = tuple(
        replace(one, parity=replace(one.parity, max_abs_diff=7.0)) for one in found.made if one.name != "int8"
    )
    return export.write_report(folder, Formats(exact, {}, "noise", 64, METRICS[metric], found.timed))


def test_a_report_made_again_without_data_keeps_what_was_measured(
    examined, made: tuple[Path, Formats], tmp_path: Path
) -> None:
    folder = copied(made[0], tmp_path / "student")
    before = json.loads((folder / "report.json").read_text())
    assert reported_without_data(folder, made[1]) == before
    # Another test split is not mixed with the first.
    first = replace(made[1], made=made[1].made[:1])
    other = export.write_report(folder, first, {"safetensors": 50.0}, images=3, data_sha256="e5" * 32)["formats"]
    assert (other["safetensors"]["test_acc"], other["onnx"]["test_acc"], other["onnx"]["points_lost"]) == (
        50.0,
        None,
        None,
    )
    # What is judged otherwise is another report.
    assert set(reported_without_data(folder, first, "map")["formats"]) == {"safetensors"}


def test_a_report_of_other_weights_is_not_kept(examined, made: tuple[Path, Formats], tmp_path: Path) -> None:
    folder = copied(made[0], tmp_path / "student")
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b" ")
    after = reported_without_data(folder, made[1])
    assert set(after["formats"]) == {"safetensors", "onnx", "pt2"}
    assert after["test"] is None
    assert all((row["test_acc"], row["max_abs_diff"]) == (None, 7.0) for row in after["formats"].values())


# What goes wrong.


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    monkeypatch.setitem(formats._entries, name, replace(formats.get(name), **changes))


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


@pytest.mark.slow
def test_a_format_that_disagrees_is_not_shipped(
    made: tuple[Path, Formats], digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real ONNX file, of weights that differ in their third digit."""
    folder = copied(made[0], tmp_path / "student")

    def off(subject: Subject, path: Path) -> Mapping[str, Any]:
        other = export.load_student(folder)
        with torch.no_grad():
            for weight in other.parameters():
                weight *= 1.002
        save_onnx(other, subject.task, path)
        return {}

    replaced(monkeypatch, "onnx", write=off)
    told = r"student\.onnx differs from the fp32 student by 0\.\d+ in a logit.*0\.0001"
    with pytest.raises(ExportError, match=told):
        export.make_formats(folder, digits.task, digits.selection, names=["onnx"])
    # Neither it nor the one before it is there.
    assert "student.onnx" not in {path.name for path in folder.iterdir()}
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    # Where nobody asked for it by name it costs nothing but itself.
    replaced(monkeypatch, "int8", unavailable=lambda: "no")
    replaced(monkeypatch, "pt2", unavailable=lambda: "no")
    found = export.make_formats(folder, digits.task, digits.selection)
    assert re.match(told, found.missing["onnx"])
    assert [one.name for one in found.made] == ["safetensors"]
    assert "student.onnx" not in {path.name for path in folder.iterdir()}


def test_a_relative_folder_is_cut_from_a_reason_and_its_name_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = ExportError(f"student.onnx differs from student/a and {tmp_path}/student/b")
    assert make._reason(error, Path("student")) == "student.onnx differs from …/a and …/b"


@pytest.mark.parametrize("step", ["write", "open"])
def test_what_fails_is_told_without_the_folders_it_was_made_in(
    teacher_folder: Path, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = copied(teacher_folder, tmp_path / "student")

    def write(subject: Subject, path: Path) -> Mapping[str, Any]:
        if step == "write":
            raise RuntimeError(f"no {subject.folder}/traced.onnx beside {folder}/config.json")
        path.write_bytes(b"no model")
        return {}

    replaced(monkeypatch, "onnx", write=write)
    for name in ("pt2", "int8"):
        replaced(monkeypatch, name, unavailable=lambda: "no")
    found = export.make_formats(folder, digits.task, digits.selection)
    assert found.missing["onnx"].startswith("the exporter failed: ")
    assert str(tmp_path) not in found.missing["onnx"]
    assert "…" in found.missing["onnx"]
    assert {path.name for path in folder.iterdir()} == SAVED


def test_a_format_that_answers_no_number_is_not_shipped(gray_task: ImageTask, tmp_path: Path) -> None:
    subject = Subject(torch.nn.Identity(), gray_task, np.zeros((3, 8, 8, 1), np.uint8), tmp_path)
    with pytest.raises(ExportError, match="by nan"):
        make.require_parity(
            formats.get("onnx"), lambda x: np.full((len(x), 10), np.nan, np.float32), np.zeros((3, 10)), subject
        )


def test_a_format_that_may_differ_has_to_answer_numbers_too(gray_task: ImageTask, tmp_path: Path) -> None:
    subject = Subject(torch.nn.Identity(), gray_task, np.zeros((3, 8, 8, 1), np.uint8), tmp_path)
    with pytest.raises(ExportError, match="no number"):
        make.require_parity(
            formats.get("int8"), lambda x: np.full((len(x), 10), np.nan, np.float32), np.zeros((3, 10)), subject
        )


def test_a_single_held_out_image_is_enough(gray_task: ImageTask, tmp_path: Path) -> None:
    seen: list[int] = []

    def answer(x_BHWC: np.ndarray) -> np.ndarray:
        seen.append(len(x_BHWC))
        return np.zeros((len(x_BHWC), 10))

    subject = Subject(torch.nn.Identity(), gray_task, np.zeros((1, 8, 8, 1), np.uint8), tmp_path)
    assert make.require_parity(formats.get("pt2"), answer, np.zeros((1, 10)), subject).agreement == 100
    assert seen == [1, 2]


@pytest.mark.parametrize(("largest", "off", "agrees"), [(0.5, 9e-5, True), (0.5, 2e-4, False), (40.0, 2e-3, True)])
def test_the_tolerance_grows_with_the_logits(
    gray_task: ImageTask, tmp_path: Path, largest: float, off: float, agrees: bool
) -> None:
    expected_NK = np.linspace(-largest, largest, 30, dtype=np.float64).reshape(3, 10)
    subject = Subject(torch.nn.Identity(), gray_task, np.zeros((3, 8, 8, 1), np.uint8), tmp_path)
    answers = iter([expected_NK[:1] + off, expected_NK[1:]])
    if agrees:
        parity = make.require_parity(formats.get("pt2"), lambda x: next(answers), expected_NK, subject)
        assert parity.max_abs_diff == pytest.approx(off)
    else:
        with pytest.raises(ExportError):
            make.require_parity(formats.get("pt2"), lambda x: next(answers), expected_NK, subject)


def test_a_format_whose_packages_are_missing_is_told_with_the_fix(
    teacher_folder: Path, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(teacher_folder, tmp_path / "student")
    (folder / "student.onnx").write_bytes(b"of other weights")
    found = format.importlib.util.find_spec
    monkeypatch.setattr(
        format.importlib.util, "find_spec", lambda name: None if name in ("onnx", "onnxruntime") else found(name)
    )
    monkeypatch.setitem(formats._entries, "pt2", replace(formats.get("pt2"), unavailable=lambda: "not today"))
    again = export.make_formats(folder, digits.task, digits.selection)
    fix = "onnx and onnxruntime are not installed: pip install 'archsearch[onnx]'"
    assert again.missing == {"onnx": fix, "int8": fix, "pt2": "not today"}
    # What was made of other weights must not lie beside these.
    assert {path.name for path in folder.iterdir()} == SAVED
    report = export.write_report(folder, again)
    assert report["missing"]["int8"] == fix
    assert list(report["formats"]) == ["safetensors"]
    assert export.brief(report)["onnx"] == {"missing": fix}
    with pytest.raises(InvalidRequest, match="onnx cannot be made here"):
        export.choose_formats(["onnx"], DOMAIN.formats(), calibrated=True)


def test_what_a_killed_process_left_is_cleared_away(teacher_folder: Path, gray_task: ImageTask, tmp_path: Path) -> None:
    folder = copied(teacher_folder, tmp_path / "student")
    (folder / ".archsearch-killed").mkdir()
    (folder / ".archsearch-killed" / "student.onnx").write_bytes(b"half of it")
    export.make_formats(folder, gray_task, None, names=[])
    assert {path.name for path in folder.iterdir()} == SAVED


def test_an_exporter_that_fails_costs_its_format_and_nothing_else(
    teacher_folder: Path, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fails(subject: Subject, path: Path) -> Mapping[str, Any]:
        raise RuntimeError("no symbolic shape\nfor this one")

    folder = copied(teacher_folder, tmp_path / "student")
    replaced(monkeypatch, "pt2", write=fails)
    replaced(monkeypatch, "onnx", unavailable=lambda: "no")
    replaced(monkeypatch, "int8", unavailable=lambda: "no")
    with caplog.at_level(logging.ERROR):
        found = export.make_formats(folder, digits.task, digits.selection)
    assert found.missing["pt2"] == "the exporter failed: RuntimeError: no symbolic shape"
    assert [one.name for one in found.made] == ["safetensors"]
    assert "student.pt2 cannot be made" in caplog.text


def test_formats_are_named_rightly_or_refused() -> None:
    assert [one.name for one in export.choose_formats(None, DOMAIN.formats(), calibrated=True)] == [
        "int8",
        "onnx",
        "pt2",
    ]
    assert [one.name for one in export.choose_formats(None, DOMAIN.formats(), calibrated=False)] == ["onnx", "pt2"]
    with pytest.raises(UnknownName, match="did you mean 'onnx'"):
        export.choose_formats(["onxx"], DOMAIN.formats(), calibrated=True)
    with pytest.raises(InvalidRequest, match="int8 takes its scales from images"):
        export.choose_formats(["pt2", "int8"], DOMAIN.formats(), calibrated=False)


# Images.


def test_held_out_images_are_spread_over_the_split_and_bounded_in_bytes(gray_task: ImageTask) -> None:
    y_N = np.arange(3000) // 300  # sorted by class, as data may come
    x_NHWC = np.broadcast_to(y_N[:, None, None, None].astype(np.uint8), (3000, 8, 8, 1))
    images_NHWC = DOMAIN.held_out(ImageSplit(x_NHWC, y_N), gray_task)
    assert (images_NHWC.shape, images_NHWC.dtype) == ((1280, 8, 8, 1), np.uint8)
    assert np.bincount(images_NHWC[:, 0, 0, 0]).min() == 128
    # 32 MiB of floats are 128 images of 256 pixels a side.
    large = replace(gray_task, height=256, width=256)
    x_NHWC = np.broadcast_to(np.uint8(0), (3000, 256, 256, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archsearch.domains.image_classification.domain._MOST_BYTES", 2**25)
        assert len(DOMAIN.held_out(ImageSplit(x_NHWC, y_N), large)) == 128


def test_without_data_parity_is_measured_on_noise(gray_task: ImageTask) -> None:
    images_NHWC = DOMAIN.held_out(None, gray_task)
    assert images_NHWC.shape == (64, 8, 8, 1)
    assert np.array_equal(images_NHWC, DOMAIN.held_out(None, gray_task))


@pytest.mark.parametrize("images", [1, 2, 3])
def test_int8_can_be_made_from_very_few_images(
    made: tuple[Path, Formats], gray_task: ImageTask, tmp_path: Path, images: int
):
    few_NHWC = DOMAIN.held_out(None, gray_task)[:images]
    details = export.save_int8(made[0] / "student.onnx", gray_task, few_NHWC, tmp_path / "int8.onnx")
    assert details["images"] + details["judged_on"] == max(2, images)
    assert open_onnx(tmp_path / "int8.onnx", 1)(few_NHWC).shape == (images, 10)


def test_where_answers_change_the_ends_are_tried_in_fp32_too(
    made: tuple[Path, Formats], gray_task: ImageTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    monkeypatch.setattr(int8, "_MOST_CHANGED", -1.0)  # no agreement is good enough
    images_NHWC = DOMAIN.held_out(None, gray_task)
    path = tmp_path / "int8.onnx"
    details = export.save_int8(made[0] / "student.onnx", gray_task, images_NHWC, path)
    assert [len(attempt["kept_fp32"]) for attempt in details["tried"]] == [0, 0, 0, 2, 2, 2]
    ends = details["tried"][-1]["kept_fp32"]
    nodes = [node for node in onnx.load(path).graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert [nodes[0].name, nodes[-1].name] == list(ends)
    best = min(details["tried"], key=lambda attempt: attempt["kl"])
    assert details["kept_fp32"] == list(best["kept_fp32"])


@pytest.mark.parametrize("spoilt", [1, 6])
def test_int8_passes_over_scales_that_answer_no_numbers(
    made: tuple[Path, Formats], gray_task: ImageTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: int
) -> None:
    opened: list[str] = []

    def open_some(path: Path, threads: int) -> Any:
        answer = open_onnx(path, threads)
        if path.name == "student.onnx":
            return answer
        opened.append(path.name)
        return (lambda x: answer(x) * np.nan) if len(opened) <= spoilt else answer

    monkeypatch.setattr(int8, "open_onnx", open_some)
    images_NHWC, path = DOMAIN.held_out(None, gray_task)[:8], tmp_path / "int8.onnx"
    if spoilt == 6:
        with pytest.raises(ExportError, match="no number"):
            export.save_int8(made[0] / "student.onnx", gray_task, images_NHWC, path)
        return
    details = export.save_int8(made[0] / "student.onnx", gray_task, images_NHWC, path)
    first = details["tried"][0]
    assert first["kl"] is None
    assert (details["calibration"], details["kept_fp32"]) != (first["calibration"], list(first["kept_fp32"]))


@pytest.mark.slow
def test_a_multi_label_student_is_judged_by_its_average_precision(
    made: tuple[Path, Formats], digits: Dataset, tmp_path: Path
) -> None:
    """The same network, its ten answers taken as ten questions."""
    folder = copied(made[0], tmp_path / "student")
    task = replace(digits.task, kind="multilabel", prevalence=(0.1,) * 10)

    def many(split: ImageSplit) -> ImageSplit:
        return ImageSplit(split.x_NHWC, np.eye(10, dtype=np.uint8)[split.y_N])

    several = Dataset(task, many(digits.train), many(digits.selection), many(digits.test), "f" * 64)
    found = export.make_formats(folder, task, several.selection, names=["pt2"])
    seen = export.examine(folder, found, several, task, {})
    assert found.judge.key == "map"
    row = seen.report["formats"]["pt2"]
    assert row["test_map"] == pytest.approx(seen.rows["student"].evaluation.mean_ap)
    assert row["test_map"] > 50
    assert isinstance(seen.rows["student"].evaluation, evaluate.MultiLabelEvaluation)


# The card's own code, run as a reader would.

BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, ".")
"""


def code_of(text: str, word: str) -> str:
    """The card's block of Python that uses a word."""
    (block,) = [part.partition("```")[0] for part in text.split("```python\n")[1:] if word in part.partition("```")[0]]
    return block


def told(code: str, folder: Path, *blocked: str) -> str:
    """What a program prints in a process that cannot import some packages."""
    code = BLOCKED.format(blocked=blocked) + code
    ran = subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, text=True, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def shown(examined, made: tuple[Path, Formats], digits: Dataset) -> tuple[Path, str, str]:
    """The folder with its card and a photo of a digit in it, the card's text, and what the student calls the photo.

    The photo lies on its side, on transparent ground, in another size: as the card's code once read it, its pixels are
    others.
    """
    folder = made[0]
    export.refresh(folder)
    upright = Image.fromarray(digits.test.x_NHWC[3, :, :, 0]).resize((24, 32), Image.Resampling.BICUBIC)
    photo = upright.convert("LA")
    photo.putalpha(upright.point(lambda level: 255 if level > 32 else 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "photo.jpg", "PNG", exif=exif)
    pixels = decode("photo.jpg", (folder / "photo.jpg").read_bytes(), (8, 8), Limits())
    with Image.open(folder / "photo.jpg") as opened:
        once = np.asarray(ImageOps.fit(opened.convert("L"), (8, 8), Image.Resampling.BICUBIC))
    assert np.abs(once.astype(int) - pixels[..., 0]).mean() > 70
    with torch.inference_mode():
        x_BCHW = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        answer = logits(export.load_student(folder), digits.task, x_BCHW)
    return folder, (folder / "README.md").read_text(), str(int(answer.argmax()))


def test_the_card_s_onnx_code_runs_without_torch(shown: tuple[Path, str, str]) -> None:
    folder, text, answer = shown
    code = code_of(text, 'open_student("student.onnx")')
    blocked = ("torch", "timm", "archsearch", "onnx")
    assert told(code, folder, *blocked).startswith(f"[('{answer}', ")
    assert told(code.replace("student.onnx", "student.int8.onnx"), folder, *blocked).startswith(f"[('{answer}', ")


def test_the_program_beside_a_student_names_photos_in_a_shell(shown: tuple[Path, str, str]) -> None:
    folder, _, answer = shown
    command = [sys.executable, "-I", "predict.py", "photo.jpg"]
    ran = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True)
    assert ran.stdout.startswith(f"photo.jpg: {answer} ")


def test_the_program_beside_a_student_is_what_training_reads_photos_with(made: tuple[Path, Formats]) -> None:
    from archsearch.domains.images import photo

    assert (made[0] / "predict.py").read_bytes() == Path(photo.__file__).read_bytes()


@pytest.mark.slow
def test_the_card_s_torch_code_runs(shown: tuple[Path, str, str]) -> None:
    folder, text, answer = shown
    assert told(code_of(text, "timm.create_model"), folder).startswith(f"[('{answer}', ")
    pt2 = told(code_of(text, "torch.export.load"), folder, "timm", "archsearch")
    assert pt2.startswith(f"[('{answer}', ")


# From the file to the name.


@pytest.mark.parametrize("name", ["onnx", "int8", "pt2"])
def test_a_format_tells_itself_how_photos_are_read(made: tuple[Path, Formats], digits: Dataset, name: str) -> None:
    one, task = formats.get(name), digits.task
    settings = one.settings(made[0] / one.file)
    assert settings == json.loads((made[0] / "preprocessing.json").read_text())
    assert settings["labels"] == list(task.class_names)
    assert (settings["mean"], settings["std"]) == (list(task.mean), list(task.std))
    assert [settings[key] for key in ("height", "width", "channels", "fit")] == [8, 8, 1, "crop"]


def test_parity_is_measured_from_the_file_to_the_name(examined, made: tuple[Path, Formats]) -> None:
    rows = examined[0].report["formats"]
    for name in ("safetensors", "onnx", "pt2"):
        found = rows[name]["from_file"]
        assert (found["images"], found["same_names"]) == (32, 100)
        assert found["max_abs_diff"] < 1e-4
    assert rows["int8"]["from_file"]["same_names"] > 90
    assert rows["int8"]["from_file"]["max_abs_diff"] > 1e-3


@pytest.mark.parametrize(
    ("field", "value"), [("labels", list("1234567890")), ("fit", "stretch"), ("mean", [0.5]), ("transparency", "black")]
)
def test_a_format_that_reads_or_names_otherwise_is_not_shipped(
    made: tuple[Path, Formats], digits: Dataset, tmp_path: Path, field: str, value: Any
) -> None:
    images_NHWC = DOMAIN.held_out(digits.selection, digits.task)[:8]
    student = export.load_student(made[0])
    subject = Subject(student, digits.task, images_NHWC, tmp_path)
    answer = reference(student, digits.task)
    settings = {**Preprocessing.of(digits.task).fields(), field: value}
    with pytest.raises(ExportError, match=rf"x says otherwise how photos are read \({field}\)"):
        measure_from_file("x", answer, settings, answer(images_NHWC), subject, None)


def test_floats_and_another_order_are_refused_by_the_file_itself(made: tuple[Path, Formats]) -> None:
    """What used to be asked of everybody, and was easily forgotten or done twice."""
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    answer = open_onnx(made[0] / FILES["onnx"], 1)
    for wrong in (np.zeros((1, 8, 8, 1), np.float32), np.zeros((1, 1, 8, 8), np.uint8)):
        with pytest.raises(InvalidArgument):
            answer(wrong)


def test_a_search_leaves_an_earlier_student_s_card_alone(made: tuple[Path, Formats], tmp_path: Path) -> None:
    folder = copied(made[0], tmp_path / "student")
    (folder / "README.md").write_text("of the student that lies here")
    story = {"request": {"kind": "search"}, "search": {"seconds": 1.0}}
    export.write_manifest(folder, story, Recipe("cifar_resnet"))
    assert (folder / "README.md").read_text() == "of the student that lies here"
    assert export.read_manifest(folder)["files"] == {}
