"""Fine-tuning from trained weights, which needs no network: a folder or a file will do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import archsearch
from archsearch import teaching, train_teacher
from archsearch.cli import app
from archsearch.data import Dataset
from archsearch.data.metrics import accuracy
from archsearch.domains import load
from archsearch.errors import ArchsearchError, Conflict, InvalidRequest, TeacherError, UnknownName
from archsearch.request import LocalTeacher, NpzData
from archsearch.teachers import Teacher, build, load_teacher

# B batch, C channels, H W space


@pytest.fixture(scope="module")
def five(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The digits 0 to 4 in colour: fewer classes and more channels than the teacher knows."""
    arrays = {}
    for name in ("train", "selection", "test"):
        split = getattr(digits, name)
        few_N = split.y_N < 5
        arrays |= {f"x_{name}": np.repeat(split.x_NHWC[few_N], 3, axis=3), f"y_{name}": split.y_N[few_N]}
    path = tmp_path_factory.mktemp("five") / "five.npz"
    np.savez(path, **arrays)
    return {"kind": "npz", "path": str(path)}


STILL = {"epochs": 1, "batch_size": 256, "lr": 1e-9, "weight_decay": 0.0, "augment": "none"}


def test_all_but_the_head_is_taken_from_a_folder(five: dict[str, Any], teacher_folder: Path, tmp_path: Path) -> None:
    train_teacher(five, tmp_path / "out", pretrained=teacher_folder, spec=STILL)
    before, after = (load_file(folder / "model.safetensors") for folder in (teacher_folder, tmp_path / "out"))
    trained = {name for name in before if "running" not in name and "num_batches" not in name}
    for name in trained - {"conv1.weight", "fc.weight", "fc.bias"}:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    assert after["fc.weight"].shape == (5, 32)
    # One channel's kernels do for three that are alike.
    torch.testing.assert_close(after["conv1.weight"].sum(1, keepdim=True), before["conv1.weight"], rtol=1e-4, atol=1e-5)
    config = json.loads((tmp_path / "out" / "config.json").read_text())["pretrained_cfg"]
    theirs = json.loads((teacher_folder / "config.json").read_text())["pretrained_cfg"]
    assert config["mean"] == pytest.approx(theirs["mean"] * 3)
    assert config["num_classes"] == 5
    assert "label_names" not in config, "the folder's classes are not the data's"


def test_a_head_of_as_many_classes_is_replaced_all_the_same(teacher_folder: Path, tmp_path: Path) -> None:
    train_teacher({"kind": "digits"}, tmp_path / "out", pretrained=str(teacher_folder), spec=STILL)
    before, after = (load_file(folder / "model.safetensors") for folder in (teacher_folder, tmp_path / "out"))
    assert (after["fc.weight"] - before["fc.weight"]).abs().max() > 0.01


def test_what_was_learned_before_helps(five: dict[str, Any], teacher_folder: Path, tmp_path: Path) -> None:
    spec = {"epochs": 1, "batch_size": 64, "augment": "none"}
    tuned = train_teacher(five, tmp_path / "a", pretrained=teacher_folder, spec=spec)
    args = {"depths": [1, 1, 1], "widths": [16, 24, 32]}
    fresh = train_teacher(five, tmp_path / "b", model_args=args, spec={**spec, "optimizer": "adamw", "lr": 3e-4})
    assert tuned["test_acc"] > fresh["test_acc"] + 10
    assert tuned["told"] == (
        f"{teacher_folder}: all but the head is taken from it; its first layer, of 1 channels, is made into one of 3"
    )


def test_a_file_of_weights_will_do(five: dict[str, Any], teacher: Teacher, tmp_path: Path) -> None:
    torch.save({"state_dict": teacher.model.state_dict()}, tmp_path / "net.pth")
    found = train_teacher(five, tmp_path / "out", pretrained=tmp_path / "net.pth", spec=STILL)
    assert found["params"] == sum(p.numel() for p in archsearch.load_student(tmp_path / "out").parameters())
    assert not (tmp_path / "out" / ".work").exists()


def test_a_network_shown_larger_images_answers_so_as_a_teacher(
    five: dict[str, Any], teacher_folder: Path, tmp_path: Path
) -> None:
    spec = {"epochs": 1, "batch_size": 128, "augment": "none"}
    result = train_teacher(five, tmp_path / "out", pretrained=teacher_folder, input_size=(12, 16), spec=spec)
    assert result["input_size"] == [12, 16]
    dataset = load(NpzData.model_validate(five))
    teacher = load_teacher(LocalTeacher(path=tmp_path / "out"), task=dataset.task)
    assert teacher.input_hw == (12, 16)
    assert accuracy(teacher.logits, dataset.test) == pytest.approx(result["test_acc"], abs=0.6)


def test_a_transformers_positions_follow_the_images(five: dict[str, Any], tmp_path: Path) -> None:
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 3}
    model = timm.create_model("vit_tiny_patch16_224", **args)
    timm.models.save_for_hf(model, str(tmp_path / "vit"), safe_serialization=True)
    train_teacher(five, tmp_path / "out", pretrained=tmp_path / "vit", input_size=16, spec=STILL)
    assert load_file(tmp_path / "out" / "model.safetensors")["pos_embed"].shape == (1, 1 + 4, 24)


class Interrupt(Exception):
    """What a listener raises to stand for a crash."""


def test_fine_tuning_goes_on_after_an_interruption_at_the_same_size_alone(
    five: dict[str, Any], teacher_folder: Path, tmp_path: Path
) -> None:
    def tune(out: str, size: int, at: int | None = None) -> tuple[dict[str, Any], set[int]]:
        resumed: set[int] = set()

        def listen(report: dict[str, Any]) -> None:
            if "resumed_at" in report:
                resumed.add(report["resumed_at"])
            if at is not None and report.get("epoch") == at:
                raise Interrupt

        spec = {"epochs": 2, "batch_size": 256}
        options: dict[str, Any] = {"pretrained": teacher_folder, "input_size": size, "spec": spec, "listener": listen}
        options["overwrite"] = out == "other"
        return train_teacher(five, tmp_path / out, **options), resumed

    whole, _ = tune("whole", 8)
    for out in ("stopped", "other"):
        with pytest.raises(Interrupt):
            tune(out, 8, at=1)
    again, resumed = tune("stopped", 8)
    assert again["sha256"] == whole["sha256"]
    assert 0 not in resumed
    assert tune("other", 10)[1] == {0}


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"pretrained": True}, InvalidRequest, "of which network"),
        ({"pretrained": "resnet_18"}, UnknownName, "did you mean 'resnet18'"),
        ({"pretrained": "nowhere/net.pth"}, InvalidRequest, "is a file's name"),
        ({"pretrained": "google/vit"}, InvalidRequest, "hf-hub:google/vit"),
        ({"pretrained": "https://example.org/net"}, InvalidRequest, "names no timm model"),
        ({"pretrained": "local-dir:nowhere"}, TeacherError, "is not there"),
        ({"pretrained": True, "model": "cifar_resnet"}, TeacherError, "no safetensors weights"),
    ],
)
def test_what_cannot_be_fine_tuned_is_named(
    options: dict[str, Any], error: type[ArchsearchError], told: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=told) as caught:
        train_teacher({"kind": "digits"}, tmp_path / "out", **options)
    assert caught.value.field == "pretrained"


def test_a_folder_whose_weights_are_another_networks_is_refused(teacher_folder: Path, tmp_path: Path) -> None:
    """timm takes what fits and leaves the rest as it is, without a word."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((teacher_folder / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_args"]["depths"], config["num_classes"] = [1, 1, 2], 3
    config["pretrained_cfg"]["num_classes"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TeacherError, match=r"layer3\.1\.bn1\.bias is missing") as caught:
        train_teacher({"kind": "digits"}, tmp_path / "out", pretrained=tmp_path)
    assert caught.value.field == "pretrained"


@pytest.mark.parametrize("size", [0, (8,), (8, 2000), ("8", "8")])
def test_a_size_that_is_none_is_refused(size: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        train_teacher({"kind": "digits"}, tmp_path, input_size=size)
    assert caught.value.field == "input_size"


def test_the_shell_fine_tunes_and_tells_the_next_command(teacher_folder: Path, tmp_path: Path) -> None:
    args = [
        "train-teacher",
        "-d",
        "digits",
        "--pretrained",
        str(teacher_folder),
        "--epochs",
        "1",
        "--batch-size",
        "256",
    ]
    args += ["--lr", "0.001", "--seed", "3", "--device", "cpu", "--augment", "none", "-o", str(tmp_path / "out")]
    text = CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False).stdout
    assert "all but the head is taken from it" in text
    assert f"next: archsearch distill --teacher {tmp_path / 'out'} --data digits" in text
    with pytest.raises(InvalidRequest, match="of which network"):
        CliRunner().invoke(
            app,
            ["train-teacher", "-d", "digits", "-o", "x", "--pretrained"],
            catch_exceptions=False,
            standalone_mode=False,
        )


@pytest.mark.parametrize(("images", "epochs"), [(100, 30), (1_200, 28), (60_000, 5)])
def test_fine_tuning_takes_fewer_steps_than_a_start_from_nothing(images: int, epochs: int) -> None:
    pace = teaching._pace({"kind": "npz"})
    tuned = teaching._tuned(teaching._teacher_recipe({}, pace), images, pace)
    assert (tuned.epochs, tuned.lr, tuned.optimizer, tuned.batch_size) == (epochs, 3e-4, "adamw", None)
    assert teaching._tuned(teaching._teacher_recipe({"epochs": 3, "lr": 0.01}, pace), images, pace).epochs == 3


@pytest.mark.parametrize(
    ("texts", "batch_size", "epochs"), [(20, 20, 30), (1_200, 32, 17), (6_800, 32, 3), (67_000, 32, 3)]
)
def test_encoders_are_fine_tuned_gently_and_briefly(texts: int, batch_size: int, epochs: int) -> None:
    pace = teaching._pace({"kind": "text"})
    tuned = teaching._tuned(teaching._teacher_recipe({}, pace), texts, pace)
    assert (tuned.epochs, tuned.batch_size, tuned.lr) == (epochs, batch_size, 1e-4)


SMALL = {"model_args": {"depths": [1, 1, 1], "widths": [8, 8, 8]}, "spec": {"epochs": 1, "batch_size": 256}}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished teacher's folder, and what was told of it."""
    out = tmp_path_factory.mktemp("taught") / "out"
    return out, train_teacher({"kind": "digits"}, out, **SMALL)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_others_made_is_refused_and_left_as_it_is(taught: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InvalidRequest, match=r"README\.md.*--overwrite"):
        train_teacher({"kind": "digits"}, tmp_path, **SMALL)
    assert contents(tmp_path) == {"README.md": b"mine"}
    out, _ = taught
    before = contents(out)
    with pytest.raises(InvalidRequest, match=r"another request made.*--overwrite"):
        train_teacher({"kind": "digits"}, out, **{**SMALL, "spec": {"epochs": 2}})
    assert contents(out) == before


def test_a_finished_teacher_is_answered_from_its_folder(taught: tuple[Path, dict[str, Any]]) -> None:
    out, told = taught
    before, reports = contents(out), []
    assert train_teacher({"kind": "digits"}, out, **SMALL, listener=reports.append) == told
    assert contents(out) == before
    assert reports == [], "nothing was trained"


def test_a_record_from_before_a_field_existed_is_understood(
    taught: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, told = taught
    for name, content in contents(out).items():
        (tmp_path / name).write_bytes(content)
    record = json.loads((tmp_path / "training.json").read_text())
    del record["request"]["distill"]["class_weights"], record["request"]["input_size"]
    (tmp_path / "training.json").write_text(json.dumps(record))
    assert train_teacher({"kind": "digits"}, tmp_path, **SMALL) == told


def test_a_finished_teacher_whose_files_are_gone_or_whose_data_changed_is_no_answer(
    taught: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, _ = taught
    (tmp_path / "training.json").write_bytes((out / "training.json").read_bytes())
    with pytest.raises(InvalidRequest, match=r"lost .*model\.safetensors.*--overwrite"):
        train_teacher({"kind": "digits"}, tmp_path, **SMALL)
    record = json.loads((out / "training.json").read_text())
    (tmp_path / "training.json").write_text(json.dumps({**record, "data": "another"}))
    with pytest.raises(InvalidRequest, match="other data"):
        train_teacher({"kind": "digits"}, tmp_path, **SMALL)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    def listen(report: dict[str, Any]) -> None:
        with pytest.raises(Conflict, match="another run is working"):
            train_teacher({"kind": "digits"}, tmp_path / "out", **SMALL, overwrite=True)
        raise Interrupt

    with pytest.raises(Interrupt):
        train_teacher({"kind": "digits"}, tmp_path / "out", **SMALL, listener=listen)


def test_the_folder_of_the_weights_it_begins_with_is_no_place_for_it(teacher_folder: Path) -> None:
    before = contents(teacher_folder)
    with pytest.raises(InvalidRequest, match="holds the weights"):
        train_teacher({"kind": "digits"}, teacher_folder, pretrained=teacher_folder, overwrite=True)
    assert contents(teacher_folder) == before


def test_a_student_is_not_distilled_over_a_teacher(taught: tuple[Path, dict[str, Any]]) -> None:
    out, _ = taught
    before = contents(out)
    request = {"teacher": {"kind": "local", "path": str(out)}, "data": {"kind": "digits"}, "budget": {"params": 5000}}
    for overwrite in (False, True):
        with pytest.raises(InvalidRequest, match="holds the teacher"):
            archsearch.run(request, out, overwrite=overwrite)
    with pytest.raises(InvalidRequest, match="another request made"):
        archsearch.run({**request, "teacher": {"kind": "timm", "name": "resnet18"}}, out)
    assert contents(out) == before


def test_a_teacher_that_diverges_in_half_precision_is_trained_in_fp32_with_a_warning(
    taught: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: torch.nn.Module, _: Any, logits_BK: torch.Tensor) -> torch.Tensor:
        return logits_BK * torch.nan if model.training and torch.is_autocast_enabled("cpu") else logits_BK

    def spoiled(*args: Any) -> torch.nn.Module:
        model = build(*args)
        model.register_forward_hook(spoil)
        return model

    spec = {**SMALL["spec"], "precision": "fp32"}
    exactly = train_teacher({"kind": "digits"}, tmp_path / "exactly", **{**SMALL, "spec": spec})
    monkeypatch.setattr("archsearch.teachers.build", spoiled)
    reports: list[dict[str, Any]] = []
    spec = {**SMALL["spec"], "precision": "bf16"}
    found = train_teacher({"kind": "digits"}, tmp_path / "out", **{**SMALL, "spec": spec}, listener=reports.append)
    assert found["sha256"] == exactly["sha256"]
    (warning,) = [report["warning"] for report in reports if "warning" in report]
    assert (warning["code"], found["warnings"], exactly["warnings"]) == ("fp32_instead", [warning], [])
    assert warning["detail"].startswith("in bf16, which was asked for, the training diverged")
