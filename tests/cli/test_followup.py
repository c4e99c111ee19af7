"""Following up a search by a candidate's number: whose it is, and what is said where it is nobody's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archsearch.cli.followup import follow_up
from archsearch.cli.inputs import build_request
from archsearch.cli.remote import submit
from archsearch.errors import InvalidRequest, NotFound
from archsearch.request import NpzData

JOB = "job_" + "0" * 20
ASKED = {
    "kind": "search",
    "teacher": {"kind": "timm", "name": "a"},
    "data": {"kind": "digits"},
    "budget": {"params": 9},
}
FLAGS = [str(parameter.name) for parameter in submit.params]
FOUND = {"winner": {"number": 1}}


def found(folder: Path) -> Path:
    lines = [{"number": number, "space": "vit", "architecture": {"depth": number + 1}} for number in range(2)]
    (folder / "candidates.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "manifest.json").write_text(json.dumps({"request": ASKED, "asked": ASKED, "search": FOUND}))
    return folder


def job(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "request": ASKED, "result": {"search": FOUND}, **more}


@pytest.mark.parametrize(("candidate", "depth"), [(None, 2), ("1", 2), ("0", 1)])
def test_a_folder_s_candidate_comes_with_its_teacher_and_data(
    tmp_path: Path, candidate: str | None, depth: int
) -> None:
    body = follow_up(str(found(tmp_path)), candidate, None)
    student = {"space": "vit", "architecture": {"depth": depth}}
    assert body == {"teacher": ASKED["teacher"], "data": ASKED["data"], "student": student}


def test_a_folder_s_paths_are_those_of_where_its_search_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    folder = home / "runs" / "search"
    folder.mkdir(parents=True)
    (home / "teacher").mkdir()
    for place in (home, away):  # another data set of the same name is none of the search's
        place.mkdir(exist_ok=True)
        (place / "mine.npz").write_bytes(b"")
    asked = {**ASKED, "teacher": {"kind": "local", "path": "teacher"}, "data": {"kind": "npz", "path": "mine.npz"}}
    manifest = {"request": asked, "asked": asked, "search": FOUND, "asked_from": {"path": "../.."}}
    (found(folder) / "manifest.json").write_text(json.dumps(manifest))

    def paths(source: str) -> tuple[str, str]:
        body = follow_up(source, None, None)
        return body["teacher"]["path"], body["data"]["path"]

    monkeypatch.chdir(home)
    assert paths("runs/search") == ("teacher", "mine.npz")
    monkeypatch.chdir(away)
    assert paths("../home/runs/search") == (str(home / "teacher"), str(home / "mine.npz"))
    # The manifest as a request file means the same ones.
    flags = {**dict.fromkeys(FLAGS), "file": folder / "manifest.json", "settings": ()}
    request = build_request(None, flags)
    assert isinstance(request.data, NpzData)
    assert request.data.path == home / "mine.npz"
    (home / "teacher").rmdir()
    assert paths(str(folder))[0] == "teacher", "which says that it is not there, by the name it was given"


@pytest.mark.parametrize(("source", "candidate", "number"), [(JOB, None, 1), (JOB, "19", 19), (None, f"{JOB}:19", 19)])
def test_a_job_s_candidate_is_named_by_job_and_number(source: str | None, candidate: str | None, number: int) -> None:
    body = follow_up(source, candidate, job)
    assert body["student"] == {"job": JOB, "candidate": number}
    assert body["teacher"] == ASKED["teacher"]


def test_what_cannot_be_followed_says_why(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    kept = found(tmp_path / "kept")
    for source, candidate, ask, error, said in (
        (None, "19", None, InvalidRequest, "say whose candidate it is"),
        (JOB, "1", None, InvalidRequest, "archsearch submit"),
        (JOB, "one", job, InvalidRequest, "no number of a candidate"),
        (JOB, None, lambda id: job(id, result=None), InvalidRequest, "no winner"),
        (str(tmp_path), "1", None, InvalidRequest, "no finished search"),
        (str(kept), "7", None, NotFound, "no candidate 7"),
    ):
        with pytest.raises(error, match=said):
            follow_up(source, candidate, ask)
