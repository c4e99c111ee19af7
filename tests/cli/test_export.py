"""`archsearch export` as a shell sees it, and a manifest as the request that makes its student again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import huggingface_hub.constants
import numpy as np
import pytest
from click.testing import CliRunner

from archsearch.cli import app
from archsearch.cli.inputs import build_request, request_options
from archsearch.data import Dataset
from archsearch.domains.images import load_npz
from archsearch.errors import ExportError, InvalidRequest, ServiceError, UnknownName
from archsearch.request import JobRequest, parse_request

pytest.importorskip("onnxruntime")

JOB = "job_" + "0" * 20


def invoke(*args: str) -> str:
    result = CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False)
    return result.stdout


@pytest.fixture
def folder(teacher_folder: Path, tmp_path: Path) -> Path:
    """A student of one's own, as timm saved it."""
    return Path(shutil.copytree(teacher_folder, tmp_path / "student"))


def test_a_folder_gets_the_formats_that_are_asked_for_in_another(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "shipped"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    text = invoke("export", str(folder), "--format", "pt2", "--out", str(out))
    assert "student.pt2" in text
    assert str(out) in text
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    made = {"student.pt2", "report.json", "README.md"}
    # How it was trained tells paths, and stays.
    assert {path.name for path in out.iterdir()} == (before.keys() - {"training.json"}) | made
    report = json.loads((out / "report.json").read_text())
    assert report["formats"]["pt2"]["held_out"]["split"] == "noise"
    assert report["formats"]["pt2"]["test_acc"] is None


def test_what_somebody_else_left_in_a_folder_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "README.md").write_text("my own notes")
    command = ("export", str(folder), "--format", "pt2", "--out", str(out))
    with pytest.raises(InvalidRequest, match=r"holds files that are not this student's \(README.md\)") as caught:
        invoke(*command)
    assert (caught.value.field, (out / "README.md").read_text()) == ("--out", "my own notes")
    assert [path.name for path in out.iterdir()] == ["README.md"]
    invoke(*command, "--overwrite")
    invoke(*command)  # its own files it may make anew
    assert (out / "student.pt2").is_file()
    for fetch in (("download", JOB), ("export", JOB)):
        with pytest.raises(InvalidRequest, match=r"not this student's \(README.md, config.json, model.safetensors, …"):
            invoke(*fetch, "--out", str(out), "--url", "http://127.0.0.1:9")
    (out / "manifest.json").write_text(json.dumps({"job": JOB}))
    with pytest.raises(ServiceError, match="does not answer"):
        invoke("download", JOB, "--out", str(out), "--url", "http://127.0.0.1:9")


@pytest.mark.slow
def test_with_data_int8_is_made_and_everything_is_tested(folder: Path) -> None:
    found = json.loads(invoke("export", str(folder), "--format", "int8, onnx", "--data", "digits", "--json"))
    assert (found["folder"], found["pushed"]) == (str(folder), None)
    rows = found["report"]["formats"]
    assert set(rows) == {"safetensors", "int8", "onnx"}
    assert rows["onnx"]["test_acc"] == rows["safetensors"]["test_acc"] > 50
    assert rows["int8"]["held_out"] == {"split": "selection", "images": 269}
    assert rows["int8"]["points_lost"] <= 2
    # A second call adds to what is there.
    again = json.loads(invoke("export", str(folder), "--format", "pt2", "--json"))["report"]["formats"]
    assert set(again) == {"safetensors", "int8", "onnx", "pt2"}
    assert again["int8"] == rows["int8"]
    card = (folder / "README.md").read_text()
    assert all(f"`{row['file']}`" in card for row in again.values())


def test_a_manifest_beside_a_student_keeps_up_with_its_files(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"note": "kept", "files": {}}))
    invoke("export", str(folder), "--format", "pt2")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["note"] == "kept"
    assert set(manifest["files"]) == {
        "model.safetensors", "config.json", "preprocessing.json", "predict.py", "student.pt2", "report.json",
        "README.md",
    }  # fmt: skip
    assert manifest["files"]["student.pt2"]["bytes"] == (folder / "student.pt2").stat().st_size


def test_a_format_that_cannot_be_made_again_is_an_error_and_leaves_the_card(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archsearch.export.format import formats

    invoke("export", str(folder), "--format", "pt2")
    assert "student.pt2" in (folder / "README.md").read_text()
    disagreeing = replace(formats.get("pt2"), open=lambda path, threads: lambda x: np.full((len(x), 10), 1e3))
    monkeypatch.setitem(formats._entries, "pt2", disagreeing)
    with pytest.raises(ExportError, match=r"pt2 is not there: student\.pt2 differs from the fp32 student"):
        invoke("export", str(folder), "--format", "pt2")
    assert not (folder / "student.pt2").exists()
    assert "student.pt2" not in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("args", "error", "told"),
    [
        (("--format", "int8"), InvalidRequest, "int8 takes its scales from images; give --data"),
        (("--format", "onxx"), UnknownName, "did you mean 'onnx'"),
        (("--data", "nowhere.npz"), InvalidRequest, "neither digits"),
        (("--data", "ds_" + "0" * 20), InvalidRequest, "lives in a service"),
        (("--push", "nobody"), InvalidRequest, "give owner/name"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    folder: Path, args: tuple[str, ...], error: type[Exception], told: str
) -> None:
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(error, match=told):
        invoke("export", str(folder), *args)
    assert {path.name for path in folder.iterdir()} == before


def test_data_of_another_task_are_refused(folder: Path, tmp_path: Path, digits) -> None:
    np.savez(tmp_path / "two.npz", x_train=digits.train.x_NHWC, y_train=digits.train.y_N % 2)
    with pytest.raises(InvalidRequest, match="tells 10 classes apart, the data has 2"):
        invoke("export", str(folder), "--data", str(tmp_path / "two.npz"))
    large_NHWC = digits.train.x_NHWC.repeat(2, 1).repeat(2, 2)
    np.savez(tmp_path / "large.npz", x_train=large_NHWC, y_train=digits.train.y_N)
    with pytest.raises(InvalidRequest, match="16×16 pixels, the student takes 8×8"):
        invoke("export", str(folder), "--data", str(tmp_path / "large.npz"))


def test_what_is_shipped_as_a_test_split_was_held_out(folder: Path, digits: Dataset, tmp_path: Path) -> None:
    """Of data given as a whole, a training would hold a fifth out; all of it is what a student may have learned."""
    np.savez(tmp_path / "all.npz", x_train=digits.train.x_NHWC[:500], y_train=digits.train.y_N[:500])
    data = ("--data", str(tmp_path / "all.npz"))
    report = json.loads(invoke("export", str(folder), "--format", "pt2", *data, "--json"))["report"]
    assert report["test"]["images"] == len(load_npz(tmp_path / "all.npz").test)


def test_a_folder_without_a_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no model\.safetensors"):
        invoke("export", str(tmp_path))


def test_a_job_s_student_is_fetched_from_its_server(tmp_path: Path) -> None:
    """Nobody listens there: the server is asked, and its absence told."""
    with pytest.raises(ServiceError, match="does not answer"):
        invoke("export", "job_" + "0" * 20, "--out", str(tmp_path / "out"), "--url", "http://127.0.0.1:9")


def test_pushing_alone_makes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before = {path.name for path in folder.iterdir()}
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ExportError, match=r"http://127\.0\.0\.1:9 does not answer"):
        invoke("export", str(folder), "--push", "me/student")
    assert {path.name for path in folder.iterdir()} == before


def request_of(*args: str) -> JobRequest:
    """The request a command line builds, parsed by click as the real commands' is."""
    built: list[JobRequest] = []

    @click.command()
    @request_options
    def command(**flags: Any) -> None:
        built.append(build_request("search_and_distill", flags))

    CliRunner().invoke(command, args, catch_exceptions=False)
    return built[0]


def test_a_manifest_is_the_request_that_made_it(tmp_path: Path) -> None:
    request = {
        "kind": "search_and_distill",
        "teacher": {"kind": "timm", "name": "resnet18"},
        "data": {"kind": "digits"},
        "budget": {"params": 1000},
        "distill": {"epochs": 7, "seed": 5},
    }
    whole = parse_request(request)
    manifest = {"request": whole.model_dump(mode="json"), "teacher": {"test_acc": 90.0}, "student": {"params": 5}}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    assert request_of("--request", str(path)) == whole
    changed = request_of("--request", str(path), "--epochs", "9")
    assert (changed.distill.epochs, changed.distill.seed) == (9, 5)


@pytest.mark.slow
def test_a_manifest_makes_its_student_again(teacher_folder: Path, tmp_path: Path) -> None:
    """Acceptance: the command of the card, run on the manifest, ends with the same weights."""
    flags = ("--space", "resnet_cifar", "--candidates", "2", "--epochs", "1", "--set", "search.batch_size=16")
    args = ("--teacher", str(teacher_folder), "--data", "digits", "--params-ratio", "0.3", *flags)
    first = json.loads(invoke("distill", *args, "--out", str(tmp_path / "first"), "--json"))
    manifest = str(tmp_path / "first" / "manifest.json")
    again = json.loads(invoke("distill", "--request", manifest, "--out", str(tmp_path / "again"), "--json"))
    assert again["student"]["test_acc"] == first["student"]["test_acc"]
    weights = "model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (tmp_path / "first" / weights).read_bytes()
    # And without its search, as the card says too.
    student = first["student"]
    named = ("--space", student["space"], "--architecture", json.dumps(student["architecture"]))
    invoke("distill", "--request", manifest, *named, "--out", str(tmp_path / "alone"))
    assert (tmp_path / "alone" / weights).read_bytes() == (tmp_path / "first" / weights).read_bytes()
