"""The commands as a shell sees them: output, exit codes, and nothing but text when nobody watches."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import archsearch
from archsearch.cli import app, exit_code, remote
from archsearch.errors import (
    Cancelled,
    DataError,
    InvalidRequest,
    NotFound,
    SearchError,
    ServiceError,
    TeacherError,
    UnknownName,
)
from archsearch.proxies import proxies
from archsearch.proxies.score import DEFAULT
from archsearch.spaces import of_domain

ROOT = Path(__file__).parents[2]


def invoke(*args: str) -> str:
    result = CliRunner().invoke(app, args, catch_exceptions=False, standalone_mode=False)
    return result.stdout


def shell(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "ARCHSEARCH_URL")}
    command = [sys.executable, "-m", "archsearch", *args]
    return subprocess.run(
        command, cwd=ROOT, env={**kept, **environment}, text=True, capture_output=True, check=False, timeout=120
    )


def test_a_job_that_is_retried_and_watched_ends_as_one_that_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    best = {"number": 3, "space": "vit", "architecture": {"depth": 2}, "params": 9, "macs": 9, "score": 1.0}
    search = {
        "traded": "params", "front": [best], "winner": {**best, "votes": {}}, "candidates_scored": 4,
        "candidates_failed": 0, "spaces": ["vit"], "seconds": 1.0,
    }  # fmt: skip
    result = {"search": search, "teacher": {"params": 90, "macs": 90}}
    job = {"id": "job_" + "1" * 20, "status": "succeeded", "error": None, "result": result}

    class Server:
        def __init__(self, url: str | None) -> None: ...
        def __enter__(self) -> Server:
            return self

        def __exit__(self, *args: object) -> None: ...
        def retry(self, job_id: str) -> dict[str, str]:
            return {"status": "queued"}

        def watch(self, job_id: str) -> list[object]:
            return []

        def job(self, job_id: str) -> dict[str, object]:
            return job

    monkeypatch.setattr(remote, "Client", Server)
    told = invoke("watch", str(job["id"]))
    assert "The winner is number 3" in told
    assert invoke("retry", str(job["id"]), "--watch") == "queued\n" + told


def test_every_command_explains_itself() -> None:
    assert set(app.commands) >= {"serve", "worker", "submit", "watch", "download", "cancel", "search", "distill"}
    for name, command in app.commands.items():
        text = invoke(name, "--help")
        assert command.help.split(".")[0] in " ".join(text.split())
        assert "-h, --help" in text
    assert "Exit codes: 0 done" in invoke("--help")


def test_help_and_listings_fit_eighty_columns_and_cut_nothing() -> None:
    narrow = {"COLUMNS": "80"}
    for args in (("--help",), ("spaces",), ("proxies",), ("losses",), ("devices",), ("distill", "--help")):
        text = CliRunner(env=narrow).invoke(app, args, standalone_mode=False, max_content_width=80).stdout
        assert max(map(len, text.splitlines())) <= 80, args
        assert "..." not in text.replace("[ARGS]...", "")
    for command in app.commands.values():
        assert command.get_short_help_str(1000).endswith("."), command.name


def test_the_version_is_the_packages() -> None:
    assert invoke("--version").strip() == f"archsearch, version {archsearch.__version__}"


def test_spaces_as_json() -> None:
    rows = json.loads(invoke("spaces", "--json", "--image-size", "32", "--in-chans", "1"))
    assert [row["name"] for row in rows] == [space.name for space in of_domain("image_classification")]
    for row in rows:
        assert row["smallest"]["params"] < row["largest"]["params"]
        assert {"name", "low", "high", "step", "doc"} <= row["parameters"][0].keys()
    (vit,) = [row for row in rows if row["name"] == "vit"]
    assert vit["stock_timm"] is True
    assert vit["cardinality"] == math.prod(len(range(p["low"], p["high"] + 1, p["step"])) for p in vit["parameters"])


def test_spaces_that_cannot_take_the_images_say_why_and_the_teacher_s_own_is_shown(teacher_folder: Path) -> None:
    rows = {row["name"]: row for row in json.loads(invoke("spaces", "--json", "--image-size", "8", "--in-chans", "1",
                                                          "--teacher", str(teacher_folder)))}  # fmt: skip
    assert "8" in rows["convnext"]["refuses"]
    own = rows["teacher"]
    assert {p["name"]: (p["low"], p["high"]) for p in own["parameters"]}["width1"][1] == 8, "eighths of the teacher's"


def test_proxies_as_json() -> None:
    rows = {row["name"]: row for row in json.loads(invoke("proxies", "--json"))}
    assert list(rows) == proxies.names()
    assert rows["kd_snip"]["needs"] == ["data", "gradients", "teacher"]
    assert {name: row["default_weight"] for name, row in rows.items() if row["default_weight"]} == dict(DEFAULT)


@pytest.mark.parametrize("command", ["spaces", "proxies"])
def test_tables_are_plain_where_nobody_watches(command: str) -> None:
    text = invoke(command)
    assert "\x1b" not in text
    names = [space.name for space in of_domain("image_classification")] if command == "spaces" else proxies.names()
    assert all(name.split("_")[0] in text for name in names)


def test_exit_codes_tell_scripts_what_happened() -> None:
    codes = {
        1: [TeacherError("x"), DataError("x"), SearchError("x"), ServiceError("x", status=500)],
        2: [InvalidRequest("x"), UnknownName("a", "b", []), ServiceError("x", status=422)],
        3: [ServiceError("x", status=0)],
        4: [Cancelled("x")],
        5: [NotFound("x"), ServiceError("x", status=404)],
    }
    for code, errors in codes.items():
        assert [exit_code(error) for error in errors] == [code] * len(errors)


def test_a_server_that_is_not_there_is_3_with_what_to_do() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    ran = shell("submit", "-t", "resnet18", "-d", "digits", "--params-ratio", "0.1", "--url", url)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "does not answer" in ran.stderr
    assert "archsearch serve" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "\x1b" not in ran.stderr


def test_a_wrong_request_is_2_with_the_field_and_no_server_is_asked() -> None:
    ran = shell("submit", "-t", "resnet18", "-d", "digits", "--params-ratio", "0.1", "--space", "vitt")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "search.space: unknown space 'vitt'; did you mean 'vit'?" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "\x1b" not in ran.stderr


def test_a_wrong_flag_is_2() -> None:
    ran = shell("submit", "--parms", "5")
    assert ran.returncode == 2
    assert "No such option" in ran.stderr


@pytest.mark.slow
def test_searching_and_distilling_here_prints_the_result(tmp_path: Path, teacher_folder: Path) -> None:
    common = ("-t", str(teacher_folder), "-d", "digits", "--params-ratio", "0.3", "--candidates", "2")
    common += ("--space", "resnet_cifar", "--set", "search.batch_size=16")
    text = invoke("search", *common, "-o", str(tmp_path / "a"))
    assert "2 candidates of resnet_cifar were scored" in text
    assert re.search(r"The winner is number \d: resnet_cifar depth1=", text)
    *_, last = text.strip().splitlines()
    assert last.startswith("next: archsearch distill --from ")
    other = 1 - int(re.search(r"number (\d)", text)[1])
    follow = ("distill", "--from", str(tmp_path / "a"), "--candidate", str(other), "--epochs", "1", "--json")
    followed = json.loads(invoke(*follow, "-o", str(tmp_path / "c")))
    kept = [json.loads(line) for line in (tmp_path / "a" / "candidates.jsonl").read_text().splitlines()]
    assert followed["student"]["architecture"] == kept[other]["architecture"]
    assert (
        followed["teacher"]["sha256"] == json.loads((tmp_path / "a" / "manifest.json").read_text())["teacher"]["sha256"]
    )
    result = json.loads(invoke("distill", *common, "--epochs", "1", "-o", str(tmp_path / "b"), "--json"))
    assert result["student"]["params"] <= 0.3 * result["teacher"]["params"]
    assert (tmp_path / "b" / "model.safetensors").is_file()
    assert result["degraded"], "an epoch teaches nothing, and the command ends with 0 all the same"


def test_training_a_teacher_takes_its_recipe_from_the_shell(tmp_path: Path) -> None:
    args = (
        "train-teacher",
        "-d",
        "digits",
        "--epochs",
        "1",
        "--model-args",
        '{"depths": [1, 1, 1], "widths": [8, 8, 8]}',
    )
    result = json.loads(invoke(*args, "--set", "batch_size=256", "-o", str(tmp_path), "--json"))
    assert result["params"] == sum(p.numel() for p in archsearch.load_student(tmp_path).parameters())
    for wrong in (("--set", "batch_size"), ("--model-args", "[1]"), ("--model-args", "{")):
        with pytest.raises(InvalidRequest):
            invoke(*args, *wrong, "-o", str(tmp_path))
