"""What is told around a job of texts: cuts, lengths, words; and budgets of latency and activations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("transformers", reason="the extra `text` is not installed")

import archsearch
from archsearch import domains
from archsearch.cli import app
from archsearch.domains.text.task import TextTask
from archsearch.errors import InvalidRequest
from archsearch.hardware.latency import measure_latency
from archsearch.hardware.profile import make_profile
from archsearch.spaces import spaces
from tests.domains.text_classification.test_domain import write_texts
from tests.hardware.test_profile import MACHINE, calibration
from tests.zoos.transformers.encoders import NAMES, write_folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("data") / "texts.csv", 240)


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    """A teacher fine-tuned a little, what was told of it, and its reports."""
    folder, reports = tmp_path_factory.mktemp("texts"), list[dict[str, Any]]()
    write_folder(folder / "encoder", "bert", id2label=dict(enumerate(NAMES)))
    told = archsearch.train_teacher(
        {"kind": "text", "path": str(data), "max_length": 8},
        folder / "teacher",
        pretrained=folder / "encoder",
        spec={"epochs": 12, "batch_size": 16, "lr": 3e-3},
        listener=reports.append,
    )
    return folder / "teacher", told, reports


def test_a_teacher_s_training_tells_how_many_texts_were_cut(
    teacher: tuple[Path, dict[str, Any], list[dict[str, Any]]],
) -> None:
    folder, told, reports = teacher
    (warning,) = (one for one in told["warnings"] if one["code"] == "texts_cut")
    assert "240 texts have more than 8 tokens" in warning["detail"]
    assert any(report.get("warning") == warning for report in reports)
    assert {report["examples"] for report in reports if "read" in report} == {"% of the texts"}
    assert domains.get("text_classification").open_task(folder).max_length == 8


@pytest.mark.parametrize("field", ["model", "input_size", "model_args"])
def test_what_only_images_have_is_refused_of_a_teacher_of_texts(data: Path, tmp_path: Path, field: str) -> None:
    write_folder(tmp_path / "encoder", "bert")
    given: Any = {"model": "resnet18", "input_size": 32, "model_args": {"depths": [1]}}[field]
    with pytest.raises(InvalidRequest, match="leave it out") as caught:
        archsearch.train_teacher(
            {"kind": "text", "path": str(data)}, tmp_path / "out", pretrained=tmp_path / "encoder", **{field: given}
        )
    assert caught.value.field == field


def test_the_shell_takes_fields_of_the_data(data: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "encoder", "bert")
    args = ["train-teacher", "-d", str(data), "--from", str(tmp_path / "encoder"), "--out", str(tmp_path / "out"),
            "--epochs", "1", "--set", "data.max_length=9", "--set", "lr=0.001"]  # fmt: skip
    ran = CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False)
    assert f"--data {data} --set data.max_length=9 --params-ratio" in ran.stdout
    assert json.loads((tmp_path / "out" / "training.json").read_text())["request"]["data"]["max_length"] == 9


def search(teacher: Path, data: Path, out: Path, budget: dict[str, Any], **more: Any) -> Any:
    return archsearch.run(
        {
            "kind": "search",
            "teacher": {"kind": "local", "path": str(teacher)},
            "data": {"kind": "text", "path": str(data), "max_length": 8},
            # The teacher is tiny, and so is what it costs.
            "budget": {"may_exceed_teacher": True, **budget},
            "search": {"space": "bert", "candidates": 3, **more},
        },
        out,
    )


@pytest.mark.slow
def test_activations_are_limited_and_the_length_they_are_of_is_told(
    teacher: tuple[Path, Any, Any], data: Path, tmp_path: Path
) -> None:
    found = search(teacher[0], data, tmp_path / "out", {"peak_activation_bytes": 40_000, "params": 3_000_000})
    assert found["search"]["costs_of"] == "texts of 8 tokens"
    assert all(0 < one["peak_activation_bytes"] <= 40_000 for one in found["search"]["front"])


@pytest.mark.slow
def test_a_profile_of_texts_prices_a_search(teacher: tuple[Path, Any, Any], data: Path, tmp_path: Path) -> None:
    task = TextTask(3, 8, 40, 0, pair=False)
    made = make_profile("a board", "cpu-torch", MACHINE, task, {"bert": calibration(spaces.get("bert"), task)})
    (tmp_path / "board.json").write_text(made.model_dump_json())
    budget = {"latency_ms": 20.0, "device": str(tmp_path / "board.json"), "params": 5_000_000}
    found = search(teacher[0], data, tmp_path / "out", budget)
    assert found["search"]["traded"] == "latency_ms"
    assert all(0 < one["latency_ms"] <= 20 for one in found["search"]["front"])
    longer = make_profile("a board", "cpu-torch", MACHINE, TextTask(3, 16, 40, 0, pair=False),
                          {"bert": calibration(spaces.get("bert"), TextTask(3, 16, 40, 0, pair=False))})  # fmt: skip
    (tmp_path / "longer.json").write_text(longer.model_dump_json())
    with pytest.raises(InvalidRequest, match="texts of max_length 16, vocab_size 40 and the data has max_length 8"):
        search(teacher[0], data, tmp_path / "again", {**budget, "device": str(tmp_path / "longer.json")})


@pytest.mark.slow
def test_latency_is_timed_on_this_machine(teacher: tuple[Path, Any, Any], data: Path, tmp_path: Path) -> None:
    found = search(teacher[0], data, tmp_path / "out", {"latency_ms": 20.0, "params": 2_000_000})
    assert found["search"]["winner"]["measured"]["latency_ms"] <= 20


@pytest.mark.slow
def test_a_profile_is_made_in_a_shell(tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    args = ["profile", "--space", "bert", "--max-length", "8", "--vocab-size", "40", "--classes", "3", "--members", "8",
            "--out", str(out)]  # fmt: skip
    CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False)
    task = json.loads(out.read_text())["task"]
    assert task == {"domain": "text_classification", "classes": 3, "max_length": 8, "vocab_size": 40}


@pytest.mark.parametrize("device", ["cpu-torch", "cpu-onnxruntime", "cpu-onnxruntime-int8"])
def test_an_encoder_is_timed_on_every_device_of_this_processor(device: str) -> None:
    if device != "cpu-torch":
        pytest.importorskip("onnxruntime")
    task, bert = TextTask(3, 8, 40, 0, pair=False), spaces.get("bert")
    shape = domains.of(task).shape(task)
    assert measure_latency(bert.build(bert.smallest(task), task), shape, device).median_ms > 0
