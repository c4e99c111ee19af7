"""A request says what is wrong with it, field and fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from archsearch.errors import InvalidRequest
from archsearch.request import (
    Budget,
    ImageFolderData,
    JobRequest,
    LocalTeacher,
    RegisteredTeacher,
    TimmTeacher,
    UploadedTeacher,
    parse_request,
    read_request,
)

BODY: dict[str, Any] = {
    "teacher": {"kind": "timm", "name": "resnet18"},
    "data": {"kind": "digits"},
    "budget": {"params_ratio": 0.1},
}
STUDENT = {"space": "vit", "architecture": {"depth": 1, "heads": 1, "mlp_ratio": 1}}


def _refused(body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(body)
    return caught.value


@pytest.mark.parametrize(
    ("part", "field", "detail"),
    [
        ({"budgets": {}}, None, "unknown field 'budgets'; did you mean 'budget'?"),
        ({"budget": {"parms": 5}}, "budget", "unknown field 'parms'; did you mean 'params'?"),
        ({"teacher": {"kind": "timm", "nam": "x"}}, "teacher", "unknown field 'nam'; did you mean 'name'?"),
        ({"budget": {"zzz": 5}}, "budget", "known fields: params, macs, params_ratio, macs_ratio"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_known(part: Any, field: str | None, detail: str) -> None:
    error = _refused({**BODY, **part})
    assert (error.field, detail in error.detail) == (field, True), error


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"search": {"candidates": 0}}, "search.candidates"),
        ({"search": {"score": {"hm": "much"}}}, "search.score.hm"),
        ({"search": {"score": {"hm": float("nan")}}}, "search.score.hm"),
        ({"distill": {"alpha": 1.5}}, "distill.alpha"),
        ({"distill": {"recipe": ["short"]}}, "distill.recipe"),
        ({"distill": {"recipe": "cifr"}}, "distill.recipe"),
        ({"distill": {"schedule": "steps", "milestones": [-1, 0.5]}}, "distill.milestones.0"),
        ({"distill": {"schedule": "steps", "milestones": [0.5, 0.5]}}, "distill"),
        ({"distill": {"method": "dkd", "losses": {"kd": {}}}}, "distill"),
        ({"distill": {"losses": {}}}, "distill"),
        ({"distill": {"losses": {"kd": {"weight": -1}}}}, "distill.losses.kd.weight"),
        ({"distill": {"micro_batch": 1}}, "distill.micro_batch"),
        ({"distill": {"batch_size": 64, "devices": 3}}, "distill"),
        ({"verify": {"candidates": 1}}, "verify.candidates"),
        ({"budget": {"params_ratio": 0}}, "budget.params_ratio"),
        ({"teacher": {"kind": "timm", "name": ""}}, "teacher.name"),
        ({"teacher": {"kind": "timm"}}, "teacher.name"),
        ({"data": {"kind": "dataset", "id": "../../etc"}}, "data.id"),
        ({"data": {"kind": "image_folder", "path": "x", "image_size": 2}}, "data.image_size"),
        ({"data": {"kind": "image_folder", "path": "x", "image_size": [32]}}, "data.image_size"),
        ({"data": {"kind": "image_folder", "path": "x", "image_size": "32"}}, "data.image_size"),
        ({"data": {"kind": "image_folder", "path": "x", "image_size": True}}, "data.image_size"),
        ({"data": {"kind": "image_folder", "path": "x", "fit": "squeeze"}}, "data.fit"),
    ],
)
def test_a_wrong_value_is_refused_by_its_dotted_field(part: Any, field: str) -> None:
    assert _refused({**BODY, **part}).field == field


def test_the_kind_decides_what_a_teacher_or_data_is() -> None:
    def of(teacher: Any, data: Any) -> JobRequest:
        return parse_request({**BODY, "teacher": teacher, "data": data})

    request = of({"kind": "local", "path": "t"}, {"kind": "image_folder", "path": "d"})
    assert (type(request.teacher), type(request.data)) == (LocalTeacher, ImageFolderData)
    request = of({"kind": "teacher", "id": "tch_0123456789"}, {"kind": "digits"})
    assert type(request.teacher) is RegisteredTeacher


def test_an_unknown_kind_names_the_known_ones() -> None:
    error = _refused({**BODY, "teacher": {"kind": "tim", "name": "x"}})
    assert error.field == "teacher"
    assert "'timm'" in error.detail
    assert _refused({**BODY, "data": {"path": "x.npz"}}).field == "data"


def test_a_server_path_cannot_be_uploaded_as_a_teacher() -> None:
    assert _refused({**BODY, "teacher": {"kind": "upload", "upload": "up_0123456789"}}).field == "teacher"


@pytest.mark.parametrize(
    ("part", "detail"),
    [
        ({"mean": [0.5]}, "mean has 1 values for 3 channels"),
        ({"mean": [0.5] * 3, "std": [1, 0, 1]}, "std must be positive"),
    ],
)
def test_an_uploaded_teachers_normalisation_fits_its_channels(part: Any, detail: str) -> None:
    source = {"upload": "up_0123456789", "architecture": "resnet18", "num_classes": 10}
    assert UploadedTeacher.model_validate(source).in_chans == 3
    with pytest.raises(ValueError, match=detail):
        UploadedTeacher.model_validate({**source, **part})


def test_a_search_needs_a_budget() -> None:
    assert "set at least one limit" in _refused({**BODY, "budget": {}}).detail
    assert "set at least one limit" in _refused({**BODY, "budget": {}, "kind": "search"}).detail
    assert parse_request({**BODY, "budget": {}, "kind": "distill", "student": STUDENT}).budget.unlimited


@pytest.mark.parametrize("part", [{"kind": "distill"}, {"student": STUDENT}, {"kind": "search", "student": STUDENT}])
def test_only_a_distillation_has_a_student_and_always_one(part: Any) -> None:
    assert "needs a student" in _refused({**BODY, **part}).detail


def test_an_error_about_the_whole_request_names_no_field() -> None:
    assert _refused({**BODY, "kind": "distill"}).field is None
    assert _refused(None).field is None


def test_a_request_survives_json() -> None:
    request = parse_request(
        {
            **BODY,
            "data": {"kind": "npz", "path": "/tmp/a.npz"},
            "search": {"score": {"hm": 1, "snip": 0.5}, "time_limit_s": 3},
            "distill": {"lr": 0.02},
        }
    )
    assert parse_request(json.loads(request.model_dump_json())) == request
    assert parse_request(request.model_dump(mode="json")) == request


def test_a_request_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_request(BODY).name = "other"


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_files_become_requests(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"request{suffix}"
    path.write_text(json.dumps(BODY) if suffix == ".json" else yaml.safe_dump(BODY))
    assert read_request(path) == parse_request(BODY)
    assert read_request(path).teacher == TimmTeacher(name="resnet18")


@pytest.mark.parametrize(("name", "content"), [("a.yaml", b"a: ["), ("a.json", b"{"), ("a.yaml", b"\xff\xfe\x00")])
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match="is not readable"):
        read_request(tmp_path / name)


def test_a_budget_describes_the_limits_that_are_set() -> None:
    assert Budget(params=1000, macs_ratio=0.5).describe() == "params ≤ 1000 and macs_ratio ≤ 0.5"
    assert Budget().describe() == "no limit"
    everything = Budget(size_bytes=9, size_precision="int8", peak_activation_bytes=8, latency_ms=1.5, batch=2)
    assert everything.describe() == (
        "size_bytes ≤ 9 in int8 and peak_activation_bytes ≤ 8 at batch 2 and latency_ms ≤ 1.5 on cpu-torch at batch 2"
    )
    assert not everything.unlimited
    assert Budget(device="cuda-graph", batch=4).unlimited, "a device alone limits nothing"


def test_a_student_is_an_architecture_or_a_candidate_never_half_of_either() -> None:
    job = {"job": "job_0123456789", "candidate": 3}
    for good in (STUDENT, job):
        assert parse_request({**BODY, "kind": "distill", "student": good}).student is not None
    halves = [{"space": "vit"}, {"architecture": {"depth": 1}}, {"job": job["job"]}, {"candidate": 3}, {}]
    for bad in [*halves, {**STUDENT, **job}]:
        error = _refused({**BODY, "kind": "distill", "student": bad})
        assert (error.field, error.detail) == ("student", "give space and architecture, or job and candidate")


def test_a_knee_needs_a_cost_to_trade() -> None:
    error = _refused({**BODY, "search": {"choose": "knee"}})
    assert "set search.trade" in error.detail
    assert parse_request({**BODY, "search": {"choose": "knee", "trade": "macs"}}).search.choose == "knee"


CONFIG = {
    "architecture": "cifar_resnet",
    "num_classes": 10,
    "model_args": {"depths": [1, 1, 1], "num_classes": 10, "in_chans": 1},
    "pretrained_cfg": {"input_size": [1, 8, 8], "mean": [0.3], "std": [0.4]},
}


def test_an_uploaded_teacher_takes_timms_config_for_its_fields() -> None:
    teacher = UploadedTeacher.model_validate({"upload": "up_0123456789", "config": CONFIG, "mean": [0.25]})
    assert (teacher.architecture, teacher.num_classes, teacher.in_chans, teacher.input_size) == (
        "cifar_resnet",
        10,
        1,
        8,
    )
    assert teacher.model_args == {"depths": [1, 1, 1]}
    assert (teacher.mean, teacher.std) == ([0.25], [0.4])  # what is given beside the config wins
    assert teacher.config is None
    assert UploadedTeacher.model_validate(teacher.model_dump()) == teacher


@pytest.mark.parametrize("config", [{"architecture": "resnet18"}, {"pretrained_cfg": 3}, {"pretrained_cfg": {}}])
def test_a_config_that_is_not_timms_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"config\.pretrained_cfg"):
        UploadedTeacher.model_validate({"upload": "up_0123456789", "config": config})


@pytest.mark.parametrize(("given", "kept"), [(32, 32), ([24, 32], (24, 32)), ([32, 32], 32), (None, None)])
def test_an_image_size_is_a_side_or_height_and_width(given: Any, kept: Any) -> None:
    data = ImageFolderData(path="x", image_size=given)
    assert data.image_size == kept
    assert ImageFolderData.model_validate_json(data.model_dump_json()) == data
    assert (data.fit, data.on_broken) == ("crop", "refuse"), "as requests from before these fields meant it"


def test_classes_named_by_numbers_may_be_written_as_numbers() -> None:
    """YAML reads `{1: 0}` as a number's; a folder of that name is meant."""
    assert TimmTeacher.model_validate({"name": "a", "classes": {1: 0, 2: "b", "10": 1}}).classes == {
        "1": 0, "2": "b", "10": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ({False: 0}, "False is no name of a class; put the names in quotes"),
        ({1.5: 0}, "1.5 is no name of a class"),
        ({1: 0, "1": 1}, "names a class twice"),
        ({"a": -1}, "'a': give the name of one of the teacher's classes, or an output's number"),
        ({"a": True}, "'a': give the name"),
        ({"a": None}, "'a': give the name"),
        ("alphabetical", "give a mapping from names to names or output numbers, or one of natural, sorted, as_is"),
        (5, "give a mapping"),
    ],
)
def test_a_map_of_classes_that_is_none_is_told_in_words(classes: Any, told: str) -> None:
    body = {"teacher": {"kind": "timm", "name": "a", "classes": classes}, "data": {"kind": "digits"}}
    with pytest.raises(InvalidRequest) as caught:
        parse_request({**body, "budget": {"params": 1}})
    assert caught.value.field == "teacher.classes"
    assert told in caught.value.detail


@pytest.mark.parametrize(
    ("part", "field", "detail"),
    [
        ({"distill": {"init": "noise"}}, "distill.init", "'auto', 'scratch', 'teacher' or 'pretrained'"),
        (
            {"distill": {"init": "scratch", "repair": False}},
            "distill",
            "repair: is of students cut out of their teacher",
        ),
        ({"search": {"pretrained": ["a.b", "c", "a.b"]}}, "search.pretrained", "names a.b twice"),
        ({"search": {"pretrained": [3]}}, "search.pretrained.0", "give a network's name"),
        ({"data": {"kind": "digits", "shots_seed": 3}}, "data", "shots_seed: is of labels that are drawn"),
        ({"data": {"kind": "digits", "rest": "drop"}}, "data", "rest: is of labels that are drawn"),
    ],
)
def test_what_would_be_ignored_is_refused(part: Any, field: str, detail: str) -> None:
    error = _refused({**BODY, **part})
    assert (error.field, detail in error.detail) == (field, True), error
