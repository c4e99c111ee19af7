from __future__ import annotations

import sys
from pathlib import Path

import pytest

from archsearch.errors import UnknownName
from archsearch.registry import Registry


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[int]:
    """A room with two files, each registering one entry."""
    package = tmp_path / "a_room"
    package.mkdir()
    code = "from archsearch.registry import Registry\nnumbers = Registry('n', 'a_room')\n"
    (package / "__init__.py").write_text(code)
    for name, value in (("two", 2), ("one", 1)):
        (package / f"{name}.py").write_text(f"from a_room import numbers\nnumbers.add('{name}', {value})\n")
    monkeypatch.syspath_prepend(tmp_path)
    import a_room

    yield a_room.numbers
    for name in [name for name in sys.modules if name.startswith("a_room")]:
        del sys.modules[name]


def test_a_room_discovers_its_files_on_first_use_in_alphabetical_order(room: Registry[int]) -> None:
    assert "a_room.one" not in sys.modules
    assert room.names() == ["one", "two"]
    assert list(room) == [1, 2]


def test_a_file_dropped_in_the_room_is_an_entry(room: Registry[int], tmp_path: Path) -> None:
    (tmp_path / "a_room" / "three.py").write_text("from a_room import numbers\nnumbers.register('three')(3)\n")
    assert room.get("three") == 3


def test_a_taken_name_raises(room: Registry[int]) -> None:
    assert room.get("one") == 1
    with pytest.raises(ValueError, match="n 'one' is registered twice"):
        room.add("one", 11)
    assert room.get("one") == 1


def test_an_unknown_name_suggests_the_nearest_and_lists_the_known(room: Registry[int]) -> None:
    with pytest.raises(UnknownName) as caught:
        room.get("onne", field="search.number")
    assert caught.value.field == "search.number"
    assert caught.value.detail == "unknown n 'onne'; did you mean 'one'?; known: one, two"
    with pytest.raises(UnknownName) as caught:
        room.get("xyz")
    assert "did you mean" not in caught.value.detail


def test_a_long_list_of_names_is_not_printed() -> None:
    detail = UnknownName("thing", "thing1x", (f"thing{i}" for i in range(200))).detail
    assert "did you mean 'thing1'" in detail
    assert "known:" not in detail
