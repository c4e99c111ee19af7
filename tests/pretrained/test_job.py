"""Whole jobs in one process whose students may begin as a network with weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from archsearch.cli.followup import follow_up
from archsearch.cli.outcome import instead, sentences
from archsearch.data import Dataset
from archsearch.errors import ArchsearchError, ImpossibleBudget, InvalidRequest, UnknownName
from archsearch.ledger.folder import FolderLedger
from archsearch.local import run
from archsearch.pretrained.stored import at_hand
from archsearch.request import parse_request
from archsearch.story import Opened, Story, find, validate
from archsearch.story.validate import settled
from archsearch.teachers import Teacher

Json = dict[str, Any]


@pytest.fixture
def body(teacher_folder: Path, networks: Path, monkeypatch: pytest.MonkeyPatch) -> Json:
    monkeypatch.setenv("ARCHSEARCH_PRETRAINED_DIR", str(networks))
    return {
        "teacher": {"kind": "local", "path": str(teacher_folder)},
        "data": {"kind": "digits"},
        "budget": {"params": 10_000},
        "search": {"space": "pretrained", "candidates": 6, "batch_size": 16},
        "distill": {"epochs": 1, "batch_size": 64},
        "verify": None,
    }


def quiet(_: Any) -> None:
    """Listens to nothing."""


@pytest.mark.slow
def test_a_student_is_a_network_with_weights_from_request_to_card(body: Json, tmp_path: Path) -> None:
    result = run(body, tmp_path / "student", listener=quiet)
    assert result["search"]["spaces"] == ["pretrained"]
    assert (result["search"]["candidates_scored"], result["search"]["exhausted"]) == (2, True)
    assert (result["student"]["space"], result["student"]["start"]) == ("pretrained", "pretrained")
    assert result["student"]["begins_as"] == "folder:knows"
    best = result["pretrained"]["best"]
    assert best is not None
    assert (best["network"], best["score"]) == ("folder:knows", result["search"]["winner"]["score"])
    assert result["pretrained"]["networks"] == ["folder:knows", "folder:noise", "folder:stock"]
    assert "cannot be built" in result["pretrained"]["left_out"]["folder:vit"]
    assert result["student"]["test_acc"] > 80
    assert instead(result) == "", "it is what the student began as"
    told = " ".join(sentences(result, "student"))
    assert "It is folder:knows, with" in told
    assert "and began with the weights it comes with." in told
    searched = {name: part for name, part in result.items() if name != "student"}
    assert f"The winner is number {result['search']['winner']['number']}: folder:knows." in sentences(searched, "out")
    manifest = json.loads((tmp_path / "student" / "manifest.json").read_text())
    named = [{"kind": "folder", "name": name} for name in ("knows", "noise", "stock")]
    assert manifest["request"]["search"]["pretrained"] == named, "the request that makes it again names them"
    assert "It began with the weights of `folder:knows`." in (tmp_path / "student" / "README.md").read_text()
    # Made again from what was kept, whatever else is at hand by then.
    again = follow_up(str(tmp_path / "student"), None, None)
    assert again["search"] == {"pretrained": ["folder:knows", "folder:noise", "folder:stock"]}
    assert again["student"] == {"space": "pretrained", "architecture": {"network": 0}}
    other = run({**again, "kind": "distill", "verify": None}, tmp_path / "again", listener=quiet)
    assert other["student"]["begins_as"] == "folder:knows"
    assert other["student"]["test_acc"] == result["student"]["test_acc"]


class Interrupt(Exception):
    """What a listener raises to stand for a crash."""


@pytest.mark.slow
def test_a_job_that_goes_on_counts_in_the_networks_it_began_with(
    body: Json, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "networks"
    shutil.copytree(networks, folder)
    monkeypatch.setenv("ARCHSEARCH_PRETRAINED_DIR", str(folder))

    def interrupt(report: Json) -> None:
        if report["phase"] == "distilling":
            raise Interrupt

    with pytest.raises(Interrupt):
        run(body, tmp_path / "student", listener=interrupt)
    shutil.copytree(networks / "noise", folder / "another")  # which comes first by name
    result = run(body, tmp_path / "student", listener=quiet)
    assert result["student"]["begins_as"] == "folder:knows"
    assert "folder:another" not in result["pretrained"]["networks"]


def test_where_none_was_at_hand_none_joins_later(
    body: Json, networks: Path, teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    request = parse_request({**body, "kind": "search", "search": {"candidates": 2, "batch_size": 16}})
    at_first = Opened(teacher, few_digits)
    later = Opened(teacher, few_digits, None, lambda named: at_hand(networks) if named is None else [])
    ledger = FolderLedger(tmp_path, request, quiet)
    checked = validate(Story(request, ledger, lambda: at_first))
    assert checked["settled"]["request"]["search"]["pretrained"] == []
    story = settled(Story(request, ledger, lambda: later), checked)
    assert {space.start for space in story.spaces} == {"teacher", "scratch"}


def found(story_body: Json, teacher: Teacher, dataset: Dataset, networks: Path | None, out: Path) -> Json:
    """What the search of a request finds, with these networks at hand."""
    request = parse_request({"kind": "search", **story_body})
    opened = Opened(teacher, dataset, None, lambda named: at_hand(networks) if named is None else [])
    return find(Story(request, FolderLedger(out, request, quiet), lambda: opened))


@pytest.mark.slow
def test_auto_lets_networks_with_weights_compete_where_some_are_at_hand(
    body: Json, networks: Path, teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    body["search"] = {"candidates": 6, "batch_size": 16}
    with_weights = found(body, teacher, few_digits, networks, tmp_path / "with")
    assert set(with_weights["starts"]) == {"teacher", "pretrained", "scratch"}
    assert with_weights["starts"]["pretrained"]["candidates_scored"] == 2
    assert with_weights["candidates_scored"] == 6
    measured = [with_weights["starts"][start]["best"]["score"] for start in ("teacher", "pretrained")]
    assert with_weights["winner"]["score"] == max(measured), "they are of one unit"
    without = found(body, teacher, few_digits, None, tmp_path / "without")
    assert set(without["starts"]) == {"teacher", "scratch"}
    assert without["pretrained"] == {
        "best": None, "why": "no network with weights was at hand", "networks": [], "left_out": {},
    }  # fmt: skip


def test_a_network_that_meets_the_budget_is_told_beside_any_winner(
    body: Json, networks: Path, teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    body |= {"search": {"space": "resnet_cifar", "candidates": 2, "batch_size": 16}}
    result = found(body, teacher, few_digits, networks, tmp_path / "out")
    assert result["winner"]["space"] == "resnet_cifar"
    best = result["pretrained"]["best"]
    assert (best["network"], best["params"] <= 10_000) == ("folder:knows", True)
    assert best["latency_ms"] is None
    told = instead({"search": result, "pretrained": result["pretrained"]})
    assert told.startswith("A network with weights meets the budget already: folder:knows (")
    body["budget"] |= {"params": 4_000}
    small = found(body, teacher, few_digits, networks, tmp_path / "small")
    assert small["pretrained"]["best"] is None
    assert small["pretrained"]["why"] == "none of 3 at hand is within the budget"


@pytest.mark.slow
def test_its_latency_is_timed_where_the_budget_has_one(
    body: Json, networks: Path, teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    body |= {"search": {"space": "resnet_cifar", "candidates": 2, "batch_size": 16}}
    body["budget"] |= {"latency_ms": 1000}
    best = found(body, teacher, few_digits, networks, tmp_path / "out")["pretrained"]["best"]
    assert best["network"] == "folder:knows"
    assert 0 < best["measured"]["low_ms"] <= best["measured"]["latency_ms"] < 1000


@pytest.mark.slow
def test_a_few_networks_are_all_timed_where_latency_is_limited(
    body: Json, networks: Path, teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    body["budget"] |= {"latency_ms": 1000}
    result = found(body, teacher, few_digits, networks, tmp_path / "out")
    assert (result["spaces"], result["candidates_scored"]) == (["pretrained"], 2)
    assert 0 < result["winner"]["latency_ms"] < 1000
    assert result["pretrained"]["best"]["network"] == "folder:knows"
    body["budget"] |= {"latency_ms": 1e-4}
    with pytest.raises(ImpossibleBudget, match="is predicted to take") as caught:
        found(body, teacher, few_digits, networks, tmp_path / "none")
    assert caught.value.field == "budget.latency_ms"


@pytest.mark.parametrize(
    ("changes", "kind", "field", "part"),
    [
        ({"search": {"pretrained": ["folder:knosw"]}}, UnknownName, "search.pretrained.0", "mean 'folder:knows'"),
        ({"search": {"pretrained": ["folder:knows", "resnet19"]}}, UnknownName, "search.pretrained.1", "resnet18"),
        ({"search": {"pretrained": ["tch_0123456789"]}}, InvalidRequest, "search.pretrained.0", "lives in a service"),
        ({"search": {"pretrained": ["local-dir:/x"]}}, InvalidRequest, "search.pretrained.0.name", "names no timm"),
        ({"search": {"pretrained": ["folder:../x"]}}, InvalidRequest, "search.pretrained.0.name", "pattern"),
        ({"search": {"pretrained": [{"kind": "disk"}]}}, InvalidRequest, "search.pretrained.0", "'folder'"),
        ({"search": {"pretrained": ["folder:vit"]}}, InvalidRequest, "search.pretrained.0", "8×8 pixels"),
        ({"search": {"pretrained": []}}, InvalidRequest, "search.pretrained", "names no network"),
        ({"distill": {"init": "scratch"}}, InvalidRequest, "distill.init", "space pretrained"),
        (
            {"search": {"space": "vit"}, "distill": {"init": "pretrained"}},
            InvalidRequest,
            "search.space",
            "no networks",
        ),
        ({"budget": {"params": 100}}, ArchsearchError, "budget", "nearest possible budget has params ≥"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_field(
    body: Json, tmp_path: Path, changes: Json, kind: type[ArchsearchError], field: str, part: str
) -> None:
    asked = {**body, **{name: {**body[name], **change} for name, change in changes.items()}}
    with pytest.raises(kind) as caught:
        run(asked, tmp_path / "student", listener=quiet)
    assert (caught.value.field, part in caught.value.detail) == (field, True), caught.value


def test_without_weights_at_hand_a_search_of_them_says_what_to_do(
    body: Json, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARCHSEARCH_PRETRAINED_DIR")
    with pytest.raises(InvalidRequest, match="ARCHSEARCH_PRETRAINED_DIR") as caught:
        run(body, tmp_path / "student", listener=quiet)
    assert caught.value.field == "search.pretrained"
