from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from archsearch.distill import view_cache
from archsearch.distill.kept import half
from archsearch.distill.view_cache import ViewCache, open_cache

IDENTITY = {"teacher": "t", "data": "d"}
ROWS, VIEWS = np.array([0, 2, 4]), np.array([1, 0, 8])
ANSWERS = np.arange(15, dtype=np.float16).reshape(3, 5)


def opened(home: Path, **identity: str) -> ViewCache:
    cache = open_cache(home, {**IDENTITY, **identity}, images=6, views=9, classes=5)
    assert cache is not None
    return cache


def test_what_is_put_is_found(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    assert not cache.look(ROWS, VIEWS).any()
    cache.put(ROWS, VIEWS, ANSWERS)
    assert cache.look(ROWS, VIEWS).all()
    assert (cache.get(ROWS, VIEWS) == ANSWERS).all()
    assert not cache.look(ROWS, VIEWS - 1 + 2 * (VIEWS == 0)).any(), "another view of the same image is another view"
    assert (cache.found, cache.asked) == (3, 6)


def test_others_see_what_was_flushed_and_nothing_else(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.put(ROWS, VIEWS, ANSWERS)
    assert not opened(tmp_path).look(ROWS, VIEWS).any(), "a crash before the flush forgets, it does not invent"
    first.flush()
    second = opened(tmp_path)
    assert second.look(ROWS, VIEWS).all()
    assert (second.get(ROWS, VIEWS) == ANSWERS).all()


def test_two_trainings_at_once_keep_what_either_learns(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.put(ROWS[:1], VIEWS[:1], ANSWERS[:1])
    second.put(ROWS[1:], VIEWS[1:], ANSWERS[1:])
    first.flush()
    second.flush()
    third = opened(tmp_path)
    assert third.look(ROWS, VIEWS).all()
    assert (third.get(ROWS, VIEWS) == ANSWERS).all()


def test_another_teacher_has_other_answers(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.put(ROWS, VIEWS, ANSWERS)
    first.flush()
    assert not opened(tmp_path, teacher="another").look(ROWS, VIEWS).any()


def test_a_disk_without_room_means_no_cache(tmp_path: Path) -> None:
    assert open_cache(tmp_path, IDENTITY, images=10**9, views=162, classes=1000) is None
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_the_oldest_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(file.stat().st_size for file in opened(tmp_path, teacher="1").folder.iterdir())
    old, new = opened(tmp_path, teacher="1"), opened(tmp_path, teacher="2")
    os.utime(old.folder, (1, 1))
    monkeypatch.setattr(view_cache, "_MOST_BYTES", 2 * size + 6 * 9 * 5 * 2 - 1)
    third = opened(tmp_path, teacher="3")
    assert {folder.name for folder in tmp_path.iterdir() if folder.is_dir()} == {new.folder.name, third.folder.name}
    old.put(ROWS, VIEWS, ANSWERS)
    old.flush()  # a training under way goes on with what it maps
    assert (old.get(ROWS, VIEWS) == ANSWERS).all()
    assert not old.folder.exists()


def test_logits_beyond_half_precision_are_brought_to_its_range() -> None:
    found = half(torch.tensor([[1e6, -1e6, 1.5]]))
    assert found.tolist() == [[65504, -65504, 1.5]]
    assert np.isfinite(found).all()


def test_answers_to_a_file_that_made_room_are_not_marked_in_the_one_that_took_its_place(tmp_path: Path) -> None:
    first = opened(tmp_path)
    shutil.rmtree(first.folder)
    second = opened(tmp_path)
    first.put(ROWS, VIEWS, ANSWERS)
    first.flush()
    assert not opened(tmp_path).look(ROWS, VIEWS).any()
    second.put(ROWS, VIEWS, ANSWERS)
    second.flush()
    assert (opened(tmp_path).get(ROWS, VIEWS) == ANSWERS).all()


@pytest.mark.parametrize("size", [0, 100, 150])
@pytest.mark.parametrize("name", ["answers.npy", "seen.npy"])
def test_a_file_a_crash_cut_short_is_laid_out_anew(tmp_path: Path, name: str, size: int) -> None:
    first = opened(tmp_path)
    first.put(ROWS, VIEWS, ANSWERS)
    first.flush()
    os.truncate(first.folder / name, size)
    second = opened(tmp_path)
    assert not second.look(ROWS, VIEWS).any()
    second.put(ROWS, VIEWS, ANSWERS)
    second.flush()
    assert opened(tmp_path).look(ROWS, VIEWS).all()


def test_making_room_spares_what_room_is_made_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_cache, "_MOST_BYTES", 6 * 9 * 5 * 2)
    first = opened(tmp_path)
    first.put(ROWS, VIEWS, ANSWERS)
    first.flush()
    assert opened(tmp_path).look(ROWS, VIEWS).all()


def test_of_so_many_views_that_few_come_twice_none_is_kept(tmp_path: Path) -> None:
    """A hundred thousand images of 224 px have 650 million: a gigabyte and more only to know which were seen."""
    assert open_cache(tmp_path, IDENTITY, images=100_000, views=57 * 57 * 2, classes=2) is None
    assert not list(tmp_path.iterdir())
