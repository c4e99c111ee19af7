"""Races: candidates whose scores are of one kind are searched among themselves, and what is measured comes first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import archsearch
from archsearch.domains.images.digits import DIGITS
from archsearch.request import SearchSpec
from archsearch.search import Trial, front, winner
from archsearch.spaces import Cost, Parameter, spaces
from archsearch.story.find import races, stopped
from archsearch.verify import contenders

NOISE, OTHER = spaces.get("resnet_cifar"), spaces.get("mobilenet")
CUT = replace(NOISE, name="teacher", start="teacher")


def trial(number: int, score: float, start: Any = "scratch", space: str = "resnet_cifar", macs: int = 10) -> Trial:
    architecture = {"depth1": number}
    return Trial(number, space, architecture, Cost(1, macs), "scored", score, {}, {}, None, 0.0, (score,), start)


def test_families_that_begin_with_noise_are_one_race_as_it_was_asked_for() -> None:
    spec = SearchSpec(candidates=7, time_limit_s=9.0, halving=2, workers=2)
    (race,) = races(spec, [NOISE, OTHER], DIGITS)
    assert (race.start, race.spaces, race.spec) == ("scratch", (NOISE, OTHER), spec)


def test_two_starts_are_two_races_that_share_candidates_and_time() -> None:
    spec = SearchSpec(candidates=9, time_limit_s=10.0, halving=2, workers=2)
    cut, noise = races(spec, [NOISE, CUT, OTHER], DIGITS)
    assert (cut.start, cut.spaces, noise.spaces) == ("teacher", (CUT,), (NOISE, OTHER))
    assert cut.spec == spec.model_copy(update={"candidates": 5, "time_limit_s": 5.0, "halving": None, "workers": 1})
    assert noise.spec == spec.model_copy(update={"candidates": 4, "time_limit_s": 5.0})
    trials = [trial(0, -1.0, "teacher", "teacher"), trial(1, 9.0)]
    assert (cut.own(trials), noise.own(trials)) == (trials[:1], trials[1:])


def test_of_a_few_networks_with_weights_the_others_share_what_is_left() -> None:
    few = replace(NOISE, name="pretrained", start="pretrained", parameters=lambda _: (Parameter("network", 0, 2),))
    spec = SearchSpec(candidates=21)
    found = {race.start: race.spec.candidates for race in races(spec, [NOISE, few, CUT], DIGITS)}
    assert found == {"teacher": 9, "pretrained": 3, "scratch": 9}
    (alone,) = races(spec, [few], DIGITS)
    assert (alone.start, alone.spec.candidates) == ("pretrained", 3)
    short = {race.start: race.spec.candidates for race in races(SearchSpec(candidates=2), [NOISE, few, CUT], DIGITS)}
    assert short == {"teacher": 1, "pretrained": 1, "scratch": 1}


def test_a_race_that_time_cut_short_is_told_of_whatever_ended_the_others() -> None:
    assert stopped({"teacher": "time", "scratch": "candidates"}) == "time"
    assert stopped({"teacher": "candidates", "scratch": "exhausted"}) == "candidates"
    assert stopped({"pretrained": "exhausted"}) == "exhausted"


def test_what_is_measured_stands_above_what_is_guessed() -> None:
    guessed, measured, worse = (
        trial(0, 30.0),
        trial(1, -0.5, "teacher", "teacher"),
        trial(2, -2.0, "teacher", "teacher"),
    )
    cheap = trial(3, -3.0, "teacher", "teacher", macs=1)
    trials = [guessed, worse, measured, cheap]
    assert winner(trials) is measured
    assert front(trials, "macs") == [cheap, measured]
    # Verification compares the best of both kinds.
    assert contenders(trials, 2) == [measured, guessed]
    assert contenders(trials, 3) == [measured, worse, guessed]


@pytest.mark.slow
def test_a_job_that_leaves_it_open_compares_both_and_distils_the_better(teacher_folder: Path, tmp_path: Path) -> None:
    asked = {
        "teacher": {"kind": "local", "path": str(teacher_folder)},
        "data": {"kind": "digits"},
        "budget": {"params_ratio": 0.6},
        "search": {"candidates": 8, "batch_size": 32},
        "verify": {"candidates": 3, "epochs": 1, "rounds": 1},
        "distill": {"epochs": 2, "batch_size": 64},
    }
    result = archsearch.run(asked, tmp_path / "job", listener=lambda _: None)
    assert result["chosen"]["init"] == (
        "cut out of the teacher and from noise, a search each, and the best of them distilled briefly to tell; "
        "no network with weights is at hand"
    )
    found = result["search"]
    assert {start: row["candidates_scored"] for start, row in found["starts"].items()} == {"teacher": 4, "scratch": 4}
    assert {row["stopped"] for row in found["starts"].values()} == {found["stopped"]} == {"candidates"}
    assert "teacher_kl" in found["winner"]["votes"]
    spaces_verified = {row["space"] for row in result["verify"]["candidates"]}
    assert "teacher" in spaces_verified
    assert len(spaces_verified) > 1
    assert result["verify"]["winner"]["space"] == "teacher"
    assert result["student"]["start"] == "teacher"
    card = (tmp_path / "job" / "README.md").read_text()
    assert "It began with weights cut out of its teacher's." in card
