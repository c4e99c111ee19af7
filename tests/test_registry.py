from __future__ import annotations

import subprocess
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


def test_a_file_that_fails_leaves_nothing_half_done(room: Registry[int], tmp_path: Path) -> None:
    broken = tmp_path / "a_room" / "zero.py"
    broken.write_text("from a_room import numbers\nnumbers.add('zero', 0)\nraise RuntimeError('not today')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not today"):
            room.names()
    broken.write_text("from a_room import numbers\nnumbers.add('zero', 0)\n# mended\n")
    assert room.names() == ["one", "two", "zero"]


def test_a_file_may_ask_the_registry_while_it_is_imported(room: Registry[int], tmp_path: Path) -> None:
    (tmp_path / "a_room" / "sum.py").write_text(
        "from a_room import numbers\nnumbers.add('sum', sum(numbers))\n"  # one is there, two is not yet
    )
    assert room.get("sum") == 1


_AT_ONCE = """
import sys, threading
sys.setswitchinterval(1e-5)
from archsearch.distill.loss import losses
from archsearch.hardware.devices import devices
from archsearch.proxies import proxies
from archsearch.spaces import spaces
meet, found = threading.Barrier(8), []
def ask():
    meet.wait()
    for registry in (spaces, proxies, losses, devices):
        found.append((registry.kind, tuple(registry.names())))
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 32 and len(set(found)) == 4, set(found)
"""


def test_threads_that_all_come_first_find_all_entries() -> None:
    subprocess.run([sys.executable, "-c", _AT_ONCE], cwd=Path(__file__).parents[1], check=True, timeout=60)
