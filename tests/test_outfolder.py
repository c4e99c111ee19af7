"""Folders belong to one run: nothing of a user's or of another run's is overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from archsearch.errors import Conflict, InvalidRequest
from archsearch.ledger.folder import FolderLedger
from archsearch.outfolder import claimed, clear
from archsearch.request import parse_request

BODY = {"teacher": {"name": "resnet18", "kind": "timm"}, "data": {"kind": "digits"}, "budget": {"params": 5}}
REQUEST = parse_request(BODY).model_dump_json()
OTHER = parse_request({**BODY, "budget": {"params": 6}}).model_dump_json()


def unfinished(out: Path, body: str) -> None:
    (out / ".work").mkdir(parents=True)
    (out / ".work" / "request.json").write_text(body)


def finished(out: Path) -> None:
    out.mkdir(exist_ok=True)
    (out / "model.safetensors").write_bytes(b"weights")
    body = {"request": json.loads(REQUEST), "files": {"model.safetensors": {}}}
    (out / "manifest.json").write_text(json.dumps(body))


def take(out: Path, body: str = REQUEST, *, overwrite: bool = False) -> object:
    with claimed(out, body, overwrite=overwrite) as made:
        return made


def test_a_new_and_an_empty_folder_are_free(tmp_path: Path) -> None:
    assert take(tmp_path) is None
    assert take(tmp_path / "new" / "deep") is None


def test_a_folder_with_a_user_s_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InvalidRequest, match=r"README\.md.*--overwrite"):
        take(tmp_path)
    assert take(tmp_path, overwrite=True) is None
    assert (tmp_path / "README.md").read_text() == "mine"


def test_an_unfinished_run_goes_on_and_another_one_s_is_refused_once_it_is_worth_something(tmp_path: Path) -> None:
    unfinished(tmp_path, OTHER)
    assert take(tmp_path) is None, "a request that was refused leaves nothing to go on with"
    (tmp_path / ".work" / "trials.jsonl").write_text("{}\n")
    assert take(tmp_path, OTHER) is None
    with pytest.raises(InvalidRequest, match="not finished"):
        take(tmp_path)
    assert take(tmp_path, overwrite=True) is None


def test_what_a_run_has_finished_is_given_back_and_another_s_is_refused(tmp_path: Path) -> None:
    finished(tmp_path)
    made = take(tmp_path)
    assert isinstance(made, dict)
    assert made["files"] == {"model.safetensors": {}}
    with pytest.raises(InvalidRequest, match="another request made"):
        take(tmp_path, OTHER)


def test_a_manifest_from_before_a_field_existed_is_understood(tmp_path: Path) -> None:
    finished(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["request"]["search"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert take(tmp_path) is not None


def test_overwriting_removes_the_files_of_the_run_before_and_no_others(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    assert take(tmp_path, OTHER, overwrite=True) is None
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_is_one_process_s_at_a_time_and_free_when_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from archsearch.outfolder import claimed\n"
        f"with claimed(pathlib.Path({str(tmp_path)!r}), 'x'): print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        for overwrite in (False, True):
            with pytest.raises(Conflict, match="another run is working in"):
                take(tmp_path, overwrite=overwrite)
        other.kill()
    assert take(tmp_path) is None


def test_a_folder_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="is no folder one can write to"):
        take(tmp_path / "file" / "out")


def test_an_unfinished_run_from_before_a_field_existed_goes_on(tmp_path: Path) -> None:
    """Its candidates and checkpoints are worth as much as on the day before the upgrade."""
    old = json.loads(REQUEST)
    del old["search"]["halving"], old["distill"]["class_weights"]
    unfinished(tmp_path, json.dumps(old))
    (tmp_path / ".work" / "trials.jsonl").write_text("")
    assert take(tmp_path) is None
    FolderLedger(tmp_path, parse_request(BODY), lambda report: None)
    assert (tmp_path / ".work" / "trials.jsonl").is_file()
    with pytest.raises(InvalidRequest, match="not finished"):
        take(tmp_path, OTHER)


def test_students_beside_the_first_go_with_it_and_what_somebody_else_put_there_stays(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "students" / "2", tmp_path / "students" / "3"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"x")
        (folder / "manifest.json").write_text(json.dumps({"request": {}, "files": {"model.safetensors": {}}}))
    (tmp_path / "students" / "3" / "notes.txt").write_text("mine")
    clear(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"students/3/notes.txt"}
    assert not (tmp_path / "students" / "2").exists()
