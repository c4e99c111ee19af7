"""The whole job in one process, and the same job after an interruption."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import archsearch
from archsearch.data import Dataset
from archsearch.data.metrics import MAP, accuracy, measure
from archsearch.distill.train import logits
from archsearch.domains import load
from archsearch.errors import Cancelled, ImpossibleBudget, InvalidRequest, SearchError, TeacherError
from archsearch.local import run
from archsearch.request import DigitsData, parse_request
from archsearch.result import Result, SearchResult, StudentResult
from archsearch.search import key
from archsearch.spaces import spaces
from archsearch.teaching import train_teacher

pytestmark = pytest.mark.smoke

Report = dict[str, Any]


@pytest.fixture(scope="module")
def body(teacher_folder: Path) -> dict[str, Any]:
    """Six candidates of at most 40 % of the teacher, and two epochs."""
    return {
        "teacher": {"kind": "local", "path": str(teacher_folder)},
        "data": {"kind": "digits"},
        "budget": {"params_ratio": 0.4},
        "search": {"space": "resnet_cifar", "candidates": 6, "batch_size": 16},
        "distill": {"epochs": 2, "batch_size": 64},
    }


class Interrupt(Exception):
    """What a listener raises to stand for a crash."""


def interrupting(phase: str, at: dict[str, Any]) -> Any:
    """A listener that raises when a report of this phase has these values."""

    def listen(report: Report) -> None:
        if report["phase"] == phase and all(report.get(name) == value for name, value in at.items()):
            raise Interrupt

    return listen


# What differs between two runs of the same: how long something took.
TIMES = ("seconds", "latency_ms", "export")


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name not in TIMES}
    return value


@pytest.fixture(scope="module")
def done(body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, list[Report]]:
    """An uninterrupted run: its result, folder and reports."""
    out, reports = tmp_path_factory.mktemp("run") / "student", []
    return run(body, out, listener=reports.append), out, reports


def test_a_run_finds_distils_and_exports_a_student_within_the_budget(done, digits: Dataset) -> None:
    result, out, _ = done
    assert {path.name for path in out.iterdir()} == {
        "model.safetensors",
        "config.json",
        "preprocessing.json",
        "predict.py",
        "candidates.jsonl",
        "manifest.json",
        "student.pt2",
        "student.onnx",
        "student.int8.onnx",
        "report.json",
        "evaluation.json",
        "README.md",
        "confusion.png",
        "calibration.png",
    }
    found, student = result["search"], result["student"]
    assert (found["candidates_scored"], found["candidates_failed"], found["infeasible_scored"]) == (6, 0, 0)
    assert student["params"] <= 0.4 * result["teacher"]["params"] == 0.4 * 31_434
    assert student["architecture"] == found["winner"]["architecture"]
    model = archsearch.load_student(out)
    assert sum(p.numel() for p in model.parameters()) == student["params"]
    assert accuracy(lambda x: logits(model, digits.task, x), digits.test) == pytest.approx(student["test_acc"])
    assert student["test_acc"] > 15
    # Two epochs are too few, and that is said.
    assert (result["degraded"], [warning["code"] for warning in result["warnings"]]) == (True, ["degraded"])
    assert result["data"] == {
        "sha256": digits.sha256,
        "classes": 10,
        "images": {"train": 1169, "selection": 269, "test": 359},
    }


def test_the_manifest_holds_what_makes_the_student_again(done, teacher) -> None:
    result, out, _ = done
    manifest = json.loads((out / "manifest.json").read_text())
    for part in ("search", "student", "teacher", "data"):
        assert manifest[part] == json.loads(json.dumps(result[part]))
    assert manifest["teacher"]["sha256"] == teacher.sha256
    assert parse_request(manifest["request"]).search.candidates == 6
    assert manifest["request"]["verify"] is None, "nothing is left open in it"
    assert (out / manifest["asked_from"]["path"]).resolve() == Path.cwd()
    assert manifest["student"]["seconds"] > 0
    assert manifest["search"]["seconds"] > 0


def test_reports_go_through_the_phases_in_order(done) -> None:
    phases = [report["phase"] for report in done[2]]
    assert list(dict.fromkeys(phases)) == ["validating", "searching", "distilling", "exporting"]
    searching = [report for report in done[2] if "scored" in report]
    assert [report["scored"] for report in searching] == list(range(7))
    assert searching[-1]["progress"] == 1
    json.dumps(done[2])


def interrupted(body: dict[str, Any], out: Path, phase: str, **at: Any) -> None:
    with pytest.raises(Interrupt):
        run(body, out, listener=interrupting(phase, at))


def test_interrupted_in_the_search_it_scores_no_candidate_twice(done, body: dict[str, Any], tmp_path: Path) -> None:
    out, search = tmp_path / "found", {**body, "kind": "search"}
    interrupted(search, out, "searching", scored=4)
    kept = [json.loads(line) for line in (out / ".work" / "trials.jsonl").read_text().splitlines()]
    assert [trial["number"] for trial in kept] == [0, 1, 2, 3]
    reports: list[Report] = []
    result = run(search, out, listener=reports.append)
    trials = [json.loads(line) for line in (out / "candidates.jsonl").read_text().splitlines()]
    assert trials[:4] == kept
    assert len({key(trial["space"], trial["architecture"]) for trial in trials}) == len(trials) == 6
    assert [report["scored"] for report in reports if "scored" in report] == [4, 5, 6]
    # What is trained afterwards is the same where this is; the next test goes all the way.
    assert without_times(result["search"]) == without_times(done[0]["search"])
    assert not (out / ".work").exists()


@pytest.mark.slow
def test_interrupted_in_the_distillation_it_goes_on_from_its_checkpoint(
    done, body: dict[str, Any], tmp_path: Path
) -> None:
    out, reports = tmp_path / "student", []
    interrupted(body, out, "distilling", epoch=1)
    result = run(body, out, listener=reports.append)
    distilling = [report for report in reports if report["phase"] == "distilling"]
    steps = [report for report in distilling if "resumed_at" in report]  # others only ask whether to go on
    assert {report["resumed_at"] for report in steps} == {steps[0]["steps"] // 2}, "after the first of two"
    assert not [report for report in reports if report["phase"] == "searching"]
    assert without_times(result) == without_times(done[0])
    weights = "model.safetensors"
    assert (out / weights).read_bytes() == (done[1] / weights).read_bytes()


@pytest.mark.slow
def test_a_line_the_crash_cut_short_is_scored_again(done, body: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "student"
    interrupted({**body, "kind": "search"}, out, "searching", scored=3)
    trials = out / ".work" / "trials.jsonl"
    trials.write_text(trials.read_text()[:-20])
    reports: list[Report] = []
    result = run({**body, "kind": "search"}, out, listener=reports.append)
    assert [report["scored"] for report in reports if "scored" in report] == [2, 3, 4, 5, 6]
    assert without_times(result["search"]) == without_times(done[0]["search"])


def test_another_request_in_the_same_folder_is_refused_unless_it_may_overwrite(
    body: dict[str, Any], tmp_path: Path
) -> None:
    interrupted(body, tmp_path, "searching", scored=2)
    other = {**body, "kind": "search", "search": {**body["search"], "seed": 1}}
    with pytest.raises(InvalidRequest, match="not finished"):
        run(other, tmp_path)
    assert (tmp_path / ".work" / "trials.jsonl").is_file()
    reports: list[Report] = []
    run(other, tmp_path, overwrite=True, listener=reports.append)
    assert next(report["scored"] for report in reports if report["phase"] == "searching") == 0


def test_what_is_done_is_given_back_and_not_done_again(done) -> None:
    result, out, _ = done
    body = json.loads((out / "manifest.json").read_text())["asked"]
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    reports: list[Report] = []
    again = run(body, out, listener=reports.append)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(result))
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert [report["phase"] for report in reports if report["phase"] != "reading"] == []


def assert_keeps_its_promise(result: dict[str, Any]) -> None:
    for promised, found in ((Result, result), (SearchResult, result["search"]), (StudentResult, result["student"])):
        assert promised.__required_keys__ <= found.keys() <= promised.__annotations__.keys()


def test_a_result_has_the_keys_it_promises(done) -> None:
    assert_keeps_its_promise(done[0])


@pytest.mark.slow
def test_so_has_one_with_everything_in_it(thorough) -> None:
    assert_keeps_its_promise(thorough[0])


def test_a_search_alone_trains_nothing(body: dict[str, Any], tmp_path: Path) -> None:
    result = run({**body, "kind": "search"}, tmp_path)
    assert "student" not in result
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", "candidates.jsonl"}
    kept = [json.loads(line) for line in (tmp_path / "candidates.jsonl").read_text().splitlines()]
    assert [candidate["number"] for candidate in kept] == list(range(6))
    winner = result["search"]["winner"]
    assert winner["score"] == pytest.approx(sum(winner["votes"].values()))


@pytest.mark.slow
def test_a_distillation_alone_trains_the_architecture_it_is_given(body: dict[str, Any], tmp_path: Path) -> None:
    architecture = {"patch": 1, "depth": 1, "heads": 1, "mlp_ratio": 2}
    student, distill = {"space": "vit", "architecture": architecture}, {**body["distill"], "epochs": 1}
    result = run({**body, "kind": "distill", "budget": {}, "student": student, "distill": distill}, tmp_path)
    assert "search" not in result
    assert result["student"]["architecture"] == architecture
    assert result["student"]["space"] == "vit"


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"budget": {"params": 10}}, ImpossibleBudget, "budget"),
        ({"teacher": {"kind": "teacher", "id": "tch_0123456789"}}, InvalidRequest, "teacher"),
        ({"data": {"kind": "dataset", "id": "ds_0123456789"}}, InvalidRequest, "data"),
        ({"search": {"space": "vitt"}}, InvalidRequest, "search.space"),
        ({"search": {"score": {"snipp": 1}}}, InvalidRequest, "search.score"),
        ({"search": {"batch_size": 1024}, "distill": {"batch_size": 4096}}, InvalidRequest, "distill.batch_size"),
        ({"distill": {"method": "kdd"}}, InvalidRequest, "distill.method"),
        ({"teacher": {"kind": "local", "path": "/nowhere"}}, TeacherError, "teacher.path"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_spent(
    body: dict[str, Any], tmp_path: Path, change: dict[str, Any], error: type[Exception], field: str
) -> None:
    reports: list[Report] = []
    with pytest.raises(error) as caught:
        run({**body, **change}, tmp_path, listener=reports.append)
    assert caught.value.field == field
    assert {report["phase"] for report in reports} <= {"validating"}


def test_a_search_in_which_every_candidate_fails_says_why(body: dict[str, Any], tmp_path: Path) -> None:
    """`semantic` needs heads as wide as the teacher's 32; under this budget all are narrower."""
    search = {"space": "resnet_cifar", "candidates": 3, "batch_size": 16, "score": {"semantic": 1.0}}
    with pytest.raises(SearchError, match=r"none of 3 candidates.*the teacher's 32"):
        run({**body, "kind": "search", "search": search, "budget": {"params": 6_000}}, tmp_path)


def test_a_listener_can_cancel(body: dict[str, Any], tmp_path: Path) -> None:
    def listen(report: Report) -> None:
        if report.get("scored") == 1:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        run(body, tmp_path, listener=listen)


def test_training_a_teacher_goes_on_after_an_interruption(tmp_path: Path) -> None:
    def make(out: Path, widths: list[int], **extra: Any) -> dict[str, Any]:
        args = {"depths": [1, 1, 1], "widths": widths}
        return train_teacher({"kind": "digits"}, out, model_args=args, spec={"epochs": 2, "batch_size": 256}, **extra)

    whole = make(tmp_path / "whole", [8, 8, 8])
    for out in ("stopped", "changed"):
        with pytest.raises(Interrupt):
            make(tmp_path / out, [8, 8, 8], listener=interrupting("training", {"epoch": 1}))
    reports: list[Report] = []
    again = make(tmp_path / "stopped", [8, 8, 8], listener=reports.append)
    assert {report["resumed_at"] for report in reports} == {reports[0]["steps"] // 2}
    assert again["sha256"] == whole["sha256"]
    # The same folder, but another network: once it is taken, it starts anew instead of loading the first's checkpoint.
    with pytest.raises(InvalidRequest, match=r"another request that is not finished.*--overwrite"):
        make(tmp_path / "changed", [8, 8, 16])
    reports.clear()
    make(tmp_path / "changed", [8, 8, 16], overwrite=True, listener=reports.append)
    assert {report["resumed_at"] for report in reports} == {0}


def test_a_teacher_learns_from_photos_of_mixed_sizes(tmp_path: Path) -> None:
    """Every real folder of photos used to stop here: nothing could say their size."""
    for name, colour in (("red", (200, 30, 30)), ("green", (30, 200, 30))):
        (tmp_path / "photos" / name / "first").mkdir(parents=True)
        for i in range(12):
            image = Image.new("RGB", (20 + 3 * i, 60 - 2 * i), colour)
            image.save(tmp_path / "photos" / name / ("first" if i % 2 else "") / f"{i}.jpg")
    (tmp_path / "photos" / "red" / "broken.jpg").write_bytes(b"no photo")
    source = {"kind": "image_folder", "path": str(tmp_path / "photos"), "image_size": [16, 24], "on_broken": "skip"}
    reports: list[Report] = []
    args = {"depths": [1, 1, 1], "widths": [8, 8, 8]}
    spec = {"epochs": 1, "batch_size": 8}
    train_teacher(source, tmp_path / "out", model_args=args, spec=spec, listener=reports.append)
    assert reports[0]["phase"] == "reading"
    warned = {report["warning"]["code"] for report in reports if "warning" in report}
    assert {"broken_images", "nested_folders"} <= warned
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pretrained_cfg"]["input_size"] == [3, 16, 24]


@pytest.mark.parametrize(
    ("source", "options", "field"),
    [
        ({"kind": "digits"}, {"spec": {"epoch": 3}}, None),
        ({"kind": "digits"}, {"spec": {"epochs": 0}}, "epochs"),
        ({"kind": "npz"}, {}, "npz.path"),
        ({"kind": "digits"}, {"model": "resnett18"}, "architecture"),
    ],
)
def test_a_teacher_that_cannot_be_trained_says_why(
    tmp_path: Path, source: dict[str, Any], options: dict[str, Any], field: str | None
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        train_teacher(source, tmp_path, **options)
    assert caught.value.field == field


@pytest.fixture(scope="module")
def thorough(body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Report]]:
    """Three candidates verified, two seeds, and a training without the teacher, by the method that suits the task."""
    request = {
        **body,
        "verify": {"candidates": 3, "epochs": 1},
        "distill": {**body["distill"], "method": "auto", "seeds": 2, "baseline": True},
    }
    out, reports = tmp_path_factory.mktemp("thorough"), []
    return run(request, out, listener=reports.append), reports


@pytest.mark.slow
def test_a_search_can_be_verified_by_brief_distillation(thorough) -> None:
    result, reports = thorough
    phases = list(dict.fromkeys(report["phase"] for report in reports))
    assert phases == ["validating", "searching", "verifying", "distilling", "exporting"]
    verified = result["verify"]
    assert verified["epochs_trained"] == 3 * 1 + 2 * 2
    assert len(verified["candidates"]) == 3
    assert result["student"]["architecture"] == verified["winner"]["architecture"]
    numbers = [candidate["number"] for candidate in verified["candidates"]]
    assert result["search"]["winner"]["number"] in numbers


@pytest.mark.slow
def test_of_several_seeds_the_best_on_the_selection_split_is_the_student(thorough) -> None:
    student, reports = thorough[0]["student"], thorough[1]
    assert list(student["seeds"]) == ["0", "1"]
    assert student["selection_acc"] == max(student["seeds"].values()) == student["seeds"][str(student["seed"])]
    # Beside these there are mere signs of life, where something takes long.
    told = [r for r in reports if r["phase"] == "distilling" and "training" in r]
    trained = [(r["training"], r["seed"]) for r in told]
    assert list(dict.fromkeys(trained)) == [("student", 0), ("student", 1), ("baseline", 0)]
    progress = [r["progress"] for r in told]
    assert progress == sorted(progress)
    assert progress[-1] == 1


@pytest.mark.slow
def test_the_training_without_a_teacher_stands_beside_the_student(thorough) -> None:
    student = thorough[0]["student"]
    assert 0 <= student["baseline"]["selection_acc"] <= 100


@pytest.mark.slow
def test_a_method_that_was_chosen_says_why(thorough) -> None:
    student = thorough[0]["student"]
    assert student["method"] in student["losses"]
    assert "10 classes" in student["why"]


@pytest.fixture(scope="module")
def many_labels(pairs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The whole job on images of two digits each, labelled with the digits that are there."""
    folder = tmp_path_factory.mktemp("many")
    arrays = {}
    for name in ("train", "selection", "test"):
        split = getattr(pairs, name)
        arrays |= {f"x_{name}": split.x_NHWC, f"y_{name}": split.y_N}
    np.savez(folder / "pairs.npz", **arrays)
    data = {"kind": "npz", "path": str(folder / "pairs.npz")}
    args = {"depths": [1, 1, 1], "widths": [16, 24, 32]}
    taught = train_teacher(data, folder / "teacher", model_args=args, spec={"epochs": 12, "batch_size": 32})
    assert taught["test_map"] > pairs.task.chance
    request = {
        "teacher": {"kind": "local", "path": str(folder / "teacher")},
        "data": data,
        "budget": {"params_ratio": 0.4},
        "search": {"space": "resnet_cifar", "candidates": 3, "batch_size": 16},
        "distill": {"epochs": 8, "batch_size": 32, "method": "auto"},
    }
    return run(request, folder / "student"), folder / "student"


@pytest.mark.slow
def test_many_labels_an_image_go_all_the_way(many_labels, pairs: Dataset) -> None:
    result, out = many_labels
    student = result["student"]
    assert student["method"] == "mld"
    assert "many labels" in student["why"]
    assert result["search"]["candidates_scored"] == 3
    assert result["teacher"]["selection_map"] > pairs.task.chance
    model = archsearch.load_student(out)
    measured = measure(MAP, lambda x: logits(model, pairs.task, x), pairs.test)
    assert measured == pytest.approx(student["test_map"])
    assert measured > pairs.task.chance
    assert "test_acc" not in student


@pytest.mark.slow
def test_families_are_compared_unasked_and_what_was_left_open_is_told(body: dict[str, Any], tmp_path: Path) -> None:
    """Two families within the budget, and no number of epochs, batch or verification."""
    search = {"space": "auto", "candidates": 6, "batch_size": 16}
    open_ = {**body, "search": search, "budget": {"params": 120_000}, "distill": {"epochs": 20}}
    out = tmp_path / "student"
    result = run(open_, out)
    assert len(result["search"]["spaces"]) > 1
    assert len({one["space"] for one in result["verify"]["candidates"]}) == 2, "the best of two families"
    assert result["verify"]["rounds"] == [{"contenders": 2, "epochs": 1}]
    assert result["student"]["space"] == result["verify"]["winner"]["space"]
    assert "families are left" in result["chosen"]["verify"]
    assert "1,169 images: batches of 32" in result["chosen"]["distill"]
    settled = json.loads((out / "manifest.json").read_text())["request"]
    assert settled["distill"]["batch_size"] == 32
    assert "batches of 32" in (out / "README.md").read_text()
    without = run({**open_, "verify": None, "kind": "search"}, tmp_path / "other")
    assert "verify" not in without


@pytest.mark.slow
def test_a_student_that_learned_nothing_ends_well_and_is_warned_of_everywhere(
    body: dict[str, Any], tmp_path: Path
) -> None:
    """Two steps at a rate that is far too high."""
    smallest = {"depth1": 1, "depth2": 1, "depth3": 1, "width1": 8, "width2": 8, "width3": 8}
    lost = {
        **{part: body[part] for part in ("teacher", "data")},
        "kind": "distill",
        "student": {"space": "resnet_cifar", "architecture": smallest},
        "distill": {"epochs": 1, "batch_size": 512, "lr": 5.0},
    }
    out, reports = tmp_path / "student", []
    result = run(lost, out, listener=reports.append)
    assert result["degraded"]
    (warning,) = result["warnings"]
    assert warning["code"] == "degraded"
    assert "below a linear model of the pixels" in warning["detail"]
    assert "(1) too few steps: 2 (epochs: 1, each of 2 batches of 512)" in warning["detail"]
    assert "(2) too high a rate: 5, where 0.4 is usual" in warning["detail"]
    assert [report["warning"] for report in reports if "warning" in report] == [warning]
    assert result["student"]["judged"]["linear_model"] > 85
    assert result["student"]["recipe"]["steps"] == 2
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["degraded"], manifest["warnings"]) == (True, [warning])
    assert "> **Warning**" in (out / "README.md").read_text()


@pytest.mark.slow
def test_a_student_that_diverges_in_half_precision_is_distilled_in_fp32_and_says_so(
    body: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: torch.nn.Module, _: Any, logits_BK: torch.Tensor) -> torch.Tensor:
        return logits_BK * torch.nan if model.training and torch.is_autocast_enabled("cpu") else logits_BK

    def spoiled(*args: Any) -> torch.nn.Module:
        model = fresh(*args)
        model.register_forward_hook(spoil)
        return model

    training = importlib.import_module("archsearch.story.distil")  # the package's own name is the function's
    fresh = training.begun
    monkeypatch.setattr(training, "begun", spoiled)
    monkeypatch.setattr("archsearch.precision._has_bf16", lambda kind: True)
    space, task = spaces.get("resnet_cifar"), load(DigitsData()).task
    student = {"space": space.name, "architecture": dict(space.smallest(task))}
    distil = {"epochs": 1, "batch_size": 256, "device": "cpu", "precision": "auto"}
    request = {**body, "kind": "distill", "budget": {}, "student": student, "distill": distil}
    result = run(request, tmp_path / "out")
    (warning,) = [warning for warning in result["warnings"] if warning["code"] == "fp32_instead"]
    assert warning["detail"].startswith("in bf16 the training diverged")
    assert result["student"]["recipe"]["precision"] == "fp32"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["machine"]["distill_precision"] == "fp32"
