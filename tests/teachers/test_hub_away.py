"""A hub that is away says nothing of a teacher: it is not refused for good."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session

from archsearch.errors import TeacherError, Unavailable
from archsearch.request import TimmTeacher
from archsearch.teachers import Teacher, at_hand, load_teacher
from tests.hub import HubOfFiles, ask
from tests.small_disk import full

GOOD = TimmTeacher(name="hf-hub:me/good")


@pytest.fixture
def hub(teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubOfFiles]:
    files = {f"me/good/{name}": (teacher_folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    hub = HubOfFiles(files)
    ask(hub, tmp_path, monkeypatch)
    yield hub
    close_session()
    hub.close()


@pytest.mark.parametrize("mood", ["silent", "503"])
def test_a_hub_that_does_not_answer_is_away_and_the_teacher_loads_once_it_is_back(
    hub: HubOfFiles, teacher: Teacher, mood: Any
) -> None:
    hub.mood = mood
    started = time.monotonic()
    with pytest.raises(Unavailable, match="the hub does not answer") as caught:
        load_teacher(GOOD)
    assert time.monotonic() - started < 5
    assert (caught.value.retryable, caught.value.field) == (True, "teacher.name")
    assert not at_hand(GOOD.name)
    hub.mood = "serve"
    assert load_teacher(GOOD).sha256 == teacher.sha256


def test_a_hub_that_nobody_reaches_is_away(hub: HubOfFiles) -> None:
    hub.close()
    with pytest.raises(Unavailable):
        load_teacher(GOOD)


def test_what_was_fetched_before_needs_no_hub(hub: HubOfFiles, teacher: Teacher) -> None:
    load_teacher(GOOD)
    assert at_hand(GOOD.name)
    hub.mood = "silent"
    started = time.monotonic()
    again = load_teacher(GOOD)
    assert (again.sha256, again.name) == (teacher.sha256, GOOD.name)
    assert time.monotonic() - started < 5


def test_what_a_hub_does_not_have_is_refused_for_good(hub: HubOfFiles) -> None:
    with pytest.raises(TeacherError, match=r"no config\.json to be had") as caught:
        load_teacher(TimmTeacher(name="hf-hub:me/none"))
    assert not caught.value.retryable


def test_a_full_disk_says_nothing_of_a_repository(
    hub: HubOfFiles, small_disk: Path, monkeypatch: pytest.MonkeyPatch, teacher: Teacher
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(small_disk / "cache"))
    with full(small_disk), pytest.raises(OSError, match="No space left"):
        load_teacher(GOOD)
    assert load_teacher(GOOD).sha256 == teacher.sha256
