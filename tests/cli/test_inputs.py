"""Flags and files become the one request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from archsearch.cli.inputs import build_request, data_of, images_again, request_options, teacher_of
from archsearch.errors import InvalidRequest
from archsearch.request import JobRequest, VerifySpec, parse_request

BASE = ["--teacher", "resnet18", "--data", "digits", "--params-ratio", "0.1"]


def request_of(*args: str, kind: str | None = "search_and_distill") -> JobRequest:
    """The request a command line builds, parsed by click as the real commands' is."""
    built: list[JobRequest] = []

    @click.command()
    @request_options
    def command(**flags: Any) -> None:
        built.append(build_request(kind, flags))

    CliRunner().invoke(command, args, catch_exceptions=False)
    return built[0]


def refused(*args: str, kind: str | None = "search_and_distill") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        request_of(*args, kind=kind)
    return caught.value


def test_each_flag_sets_its_field() -> None:
    request = request_of(
        *("--teacher", "hf-hub:me/net", "--data", "digits", "--params", "5", "--params-ratio", "0.5", "--macs", "7"),
        *("--macs-ratio", "0.25", "--space", "vit", "--candidates", "9", "--method", "none", "--epochs", "3"),
        *("--seed", "4", "--name", "mine"),
    )
    assert request == parse_request(
        {
            "kind": "search_and_distill",
            "name": "mine",
            "teacher": {"kind": "timm", "name": "hf-hub:me/net"},
            "data": {"kind": "digits"},
            "budget": {"params": 5, "params_ratio": 0.5, "macs": 7, "macs_ratio": 0.25},
            "search": {"space": "vit", "candidates": 9, "seed": 4},
            "distill": {"method": "none", "epochs": 3, "seed": 4},
        }
    )


def test_networks_with_weights_are_named_one_by_one() -> None:
    asked = request_of(*BASE, "--space", "pretrained", "--network", "resnet18.a1_in1k", "--network", "folder:mine")
    assert [one.label for one in asked.search.pretrained or ()] == ["resnet18.a1_in1k", "folder:mine"]
    assert request_of(*BASE).search.pretrained is None


def test_workers_are_a_number_or_left_to_the_machine() -> None:
    assert request_of(*BASE).search.workers == 1
    assert request_of(*BASE, "--workers", "3").search.workers == 3
    assert request_of(*BASE, "--workers", "auto").search.workers == "auto"
    for wrong in ("0", "many", "-2"):
        assert refused(*BASE, "--workers", wrong).field == "search.workers"


def test_set_reaches_any_field_with_its_type() -> None:
    request = request_of(
        *BASE,
        *("--set", "distill.temperature=2", "--set", "search.sampler=random", "--set", "search.score={hm: 1, snip: 2}"),
        *("--set", "distill.lr=null", "--set", "name=a=b"),
    )
    assert request.distill.temperature == 2.0
    assert request.search.sampler == "random"
    assert request.search.score == {"hm": 1.0, "snip": 2.0}
    assert request.distill.lr is None
    assert request.name == "a=b"


@pytest.mark.parametrize(
    ("setting", "field", "detail"),
    [
        ("distill.temperature", "--set", "no FIELD=VALUE"),
        ("distill.temprature=2", "distill", "did you mean 'temperature'?"),
        ("kind.sort=2", "kind.sort", "kind has no fields"),
        ("distill.epochs=[", None, "is not readable"),
        ("distill.epochs=many", "distill.epochs", "integer"),
    ],
)
def test_a_wrong_setting_is_refused(setting: str, field: str | None, detail: str) -> None:
    error = refused(*BASE, "--set", setting)
    assert (error.field, detail in error.detail) == (field, True), error


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_flags_override_the_file(tmp_path: Path, suffix: str) -> None:
    body = {
        "teacher": {"kind": "timm", "name": "resnet18"},
        "data": {"kind": "digits"},
        "budget": {"params": 100, "macs": 50},
        "distill": {"epochs": 7},
    }
    path = tmp_path / f"request.{suffix}"
    path.write_text(json.dumps(body) if suffix == "json" else yaml.safe_dump(body))
    assert request_of("-f", str(path)) == parse_request(body)
    request = request_of("-f", str(path), "--params", "200", "--epochs", "8", "--teacher", "resnet34")
    assert (request.budget.params, request.budget.macs, request.distill.epochs) == (200, 50, 8)
    assert request.teacher.name == "resnet34"


@pytest.mark.parametrize("content", ["a: [", "- 1", "", "\x00"])
def test_a_file_that_is_no_request_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.yaml").write_text(content)
    assert "r.yaml" in str(refused("-f", str(tmp_path / "r.yaml")))


def test_the_command_decides_what_is_done_and_submit_leaves_it_to_the_file(tmp_path: Path) -> None:
    body = {"kind": "search_and_distill", "teacher": {"kind": "timm", "name": "x"}, "data": {"kind": "digits"}}
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**body, "budget": {"params": 5}}))
    assert request_of("-f", str(path), kind="search").kind == "search"
    assert request_of("-f", str(path), kind=None).kind == "search_and_distill"
    path.write_text(json.dumps({**body, "kind": "search", "budget": {"params": 5}}))
    assert request_of("-f", str(path), kind=None).kind == "search"
    assert request_of("-f", str(path), kind="search_and_distill").kind == "search_and_distill"
    assert request_of(*BASE, kind=None).kind == "search_and_distill"


def test_an_architecture_is_distilled_and_not_searched_for() -> None:
    chosen = '{"depth": 1, "heads": 2, "mlp_ratio": 3}'
    for kind in ("search_and_distill", None):
        request = request_of(*BASE, "--space", "vit", "--architecture", chosen, kind=kind)
        assert request.kind == "distill"
        found = request.student.model_dump(exclude_none=True)
        assert found == {"space": "vit", "architecture": json.loads(chosen)}
    search = refused(*BASE, "--space", "vit", "--architecture", chosen, kind="search")
    assert "needs a student, and only it takes one" in search.detail
    assert refused(*BASE, "--architecture", chosen).field == "--space"


def test_a_manifest_s_verification_goes_with_its_search(tmp_path: Path) -> None:
    body = {
        "kind": "search_and_distill", "teacher": {"kind": "timm", "name": "x"}, "data": {"kind": "digits"},
        "budget": {"params": 5}, "verify": {"candidates": 2},
    }  # fmt: skip
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"request": parse_request(body).model_dump(mode="json")}))
    named = ("-f", str(path), "--space", "vit", "--architecture", '{"depth": 1, "heads": 2, "mlp_ratio": 3}')
    request = request_of(*named)
    assert (request.kind, request.verification) == ("distill", None)
    assert "verify" in str(refused(*named, "--verify", "3"))
    assert request_of("-f", str(path)).verify is not None


def test_verification_is_left_open_asked_for_or_off(tmp_path: Path) -> None:
    named = ("-t", "resnet18", "-d", "digits", "--params", "5")
    assert request_of(*named).verify == "auto"
    assert request_of(*named, "--verify", "3").verification == VerifySpec(candidates=3)
    assert request_of(*named, "--verify", "0").verify is None
    path = tmp_path / "request.json"
    path.write_text(request_of(*named).model_dump_json())
    assert request_of("-f", str(path)).verify == "auto"
    assert request_of("-f", str(path), "--verify", "3").verification == VerifySpec(candidates=3)


@pytest.mark.parametrize("text", ["{", "[1]", "7"])
def test_an_architecture_is_a_json_mapping(text: str) -> None:
    assert refused(*BASE, "--architecture", text).field == "--architecture"


def test_what_is_missing_is_asked_for() -> None:
    assert refused("--data", "digits").field == "teacher"
    assert refused("--teacher", "resnet18").field == "data"
    assert "at least one limit" in refused("--teacher", "resnet18", "--data", "digits").detail


def test_a_teacher_is_a_name_a_folder_or_an_id(tmp_path: Path) -> None:
    assert teacher_of("resnet18.a1_in1k") == {"kind": "timm", "name": "resnet18.a1_in1k"}
    assert teacher_of("hf-hub:me/net") == {"kind": "timm", "name": "hf-hub:me/net"}
    assert teacher_of(str(tmp_path)) == {"kind": "local", "path": str(tmp_path)}
    assert teacher_of("local-dir:there") == {"kind": "local", "path": "there"}
    assert teacher_of("tch_0123456789abcdef0123") == {"kind": "teacher", "id": "tch_0123456789abcdef0123"}


def test_data_are_digits_files_or_an_id(tmp_path: Path) -> None:
    for name in ("a.npz", "a.zip"):
        (tmp_path / name).touch()
    assert data_of("digits") == {"kind": "digits"}
    assert data_of("ds_0123456789abcdef0123") == {"kind": "dataset", "id": "ds_0123456789abcdef0123"}
    assert data_of(str(tmp_path / "a.npz"))["kind"] == "npz"
    assert data_of(str(tmp_path / "a.zip"))["kind"] == data_of(str(tmp_path))["kind"] == "image_folder"
    with pytest.raises(InvalidRequest, match="neither digits, a data set id nor a file"):
        data_of("digitz")


def test_a_head_is_fitted_where_the_flag_says_so() -> None:
    assert request_of(*BASE).teacher.head == "keep"
    assert request_of(*BASE, "--head", "probe").teacher.head == "probe"
    assert refused(*BASE, "--head", "shrink").field == "teacher.head"


def test_flags_say_what_becomes_of_image_files(tmp_path: Path) -> None:
    base = ["--teacher", "resnet18", "--data", str(tmp_path), "--params-ratio", "0.1"]
    flags = ["--image-size", "224x160", "--fit", "pad", "--on-broken", "skip"]
    data: Any = request_of(*base, *flags).data
    assert (data.image_size, data.fit, data.on_broken) == ((224, 160), "pad", "skip")
    square: Any = request_of(*base, "--image-size", "64").data
    assert (square.image_size, square.fit, square.on_broken) == (64, "crop", "refuse")
    # A request file's data are told so too.
    file = tmp_path / "request.yaml"
    body = {"teacher": {"kind": "timm", "name": "resnet18"}, "budget": {"params": 9}}
    file.write_text(yaml.safe_dump({**body, "data": {"kind": "image_folder", "path": "photos", "image_size": 32}}))
    changed: Any = request_of("--request", str(file), "--image-size", "48×64").data
    assert (changed.path, changed.image_size) == (Path("photos"), (48, 64))


def test_flags_for_image_files_are_refused_elsewhere() -> None:
    error = refused(*BASE, "--image-size", "32")
    assert (error.field, "folders and zips of images alone" in error.detail) == ("--image-size", True)
    with pytest.raises(click.UsageError, match="give a side in pixels"):
        build_one("--image-size", "32 by 32")


def build_one(*args: str) -> None:
    @click.command()
    @request_options
    def command(**flags: Any) -> None: ...

    command.main(args, standalone_mode=False)


def test_images_elsewhere_are_read_as_the_file_says(tmp_path: Path) -> None:
    """A manifest's data lie elsewhere for whoever makes its student again."""
    file = tmp_path / "manifest.yaml"
    data = {"kind": "image_folder", "path": "gone", "image_size": [24, 32], "fit": "pad", "on_broken": "skip"}
    body = {"teacher": {"kind": "timm", "name": "resnet18"}, "budget": {"params": 9}, "data": data}
    file.write_text(yaml.safe_dump({"request": body}))
    found: Any = request_of("--request", str(file), "--data", str(tmp_path)).data
    assert found.path == tmp_path
    assert (found.image_size, found.fit, found.on_broken) == ((24, 32), "pad", "skip")


def test_the_next_command_reads_images_as_this_one_did() -> None:
    flags = {"image_size": [24, 32], "fit": "pad", "on_broken": None}
    assert images_again(flags) == " --image-size 24x32 --fit pad"
    again = images_again({"image_size": 64, "on_broken": "skip", "duplicates": "drop"})
    assert again == " --image-size 64 --on-broken skip --duplicates drop"
    assert images_again({}) == ""


def test_several_students_are_a_number_or_limits_with_commas_between() -> None:
    named = ("--teacher", "resnet18", "--data", "digits")
    assert request_of(*named, "--students", "3").students == 3
    asked = request_of(*named, "--latency-ms", "5,2,1", "--params", "9")
    assert asked == parse_request(
        {
            "kind": "search_and_distill",
            "teacher": {"kind": "timm", "name": "resnet18"},
            "data": {"kind": "digits"},
            "budget": {"params": 9, "latency_ms": [5, 2, 1]},
        }
    )
    result = CliRunner().invoke(click.command()(request_options(lambda **_: None)), ["--params", "9,x"])
    assert result.exit_code == 2
    assert "give a whole number, or several with commas between" in result.output


def test_limits_of_several_students_in_a_file_give_way_to_flags(tmp_path: Path) -> None:
    file = tmp_path / "asked.json"
    asked = request_of(*BASE[:4], "--params", "90,50", "--macs", "7")
    file.write_text(json.dumps({"request": asked.model_dump(mode="json")}))
    again = ("--request", str(file))
    assert request_of(*again) == asked
    assert request_of(*again, "--epochs", "3").students == asked.students
    assert request_of(*again, "--params", "40").how_many == 1
    assert request_of(*again, "--macs", "9,5").students.of == ("macs", (9, 5))  # type: ignore[union-attr]
    alone = request_of(*again, "--space", "vit", "--architecture", '{"depth": 1}')
    assert (alone.kind, alone.how_many) == ("distill", 1)
