from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from archsearch.distill.loss import FILES as LOSSES
from archsearch.distill.loss import losses
from archsearch.errors import UnknownName
from archsearch.export.format import FILES as FORMATS
from archsearch.export.format import formats
from archsearch.hardware.devices import devices
from archsearch.proxies import proxies
from archsearch.proxies.proxy import FILES as PROXIES
from archsearch.registry import Registry
from archsearch.spaces import spaces
from archsearch.spaces.space import FILES as SPACES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[int]:
    """A room with two files, each registering one entry."""
    package = tmp_path / "a_room"
    package.mkdir()
    code = "from archsearch.registry import Registry\nnumbers = Registry('n', 'a_room', ('one', 'two'))\n"
    (package / "__init__.py").write_text(code)
    for name, value in (("two", 2), ("one", 1)):
        (package / f"{name}.py").write_text(f"from a_room import numbers\nnumbers.add('{name}', {value})\n")
    monkeypatch.syspath_prepend(tmp_path)
    import a_room

    yield a_room.numbers
    for name in [name for name in sys.modules if name.startswith("a_room")]:
        del sys.modules[name]


def test_names_are_known_before_anything_is_imported_and_one_entry_imports_one_file(room: Registry[int]) -> None:
    assert room.names() == ["one", "two"]
    assert not {"a_room.one", "a_room.two"} & sys.modules.keys()
    assert room.get("two") == 2
    assert "a_room.one" not in sys.modules
    assert list(room) == [1, 2]


def test_who_is_not_of_the_house_is_an_entry_like_any_other(room: Registry[int]) -> None:
    room.register("three")(3)
    assert room.names() == ["one", "three", "two"]
    assert list(room) == [1, 3, 2]


def test_nobody_takes_the_name_of_a_file_that_was_not_asked_for_yet(room: Registry[int]) -> None:
    with pytest.raises(ValueError, match="n 'one' is registered twice"):
        room.add("one", 11)
    assert room.get("one") == 1


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
    broken = tmp_path / "a_room" / "one.py"
    broken.write_text("from a_room import numbers\nnumbers.add('one', 0)\nraise RuntimeError('not today')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not today"):
            room.get("one")
    assert room.get("two") == 2
    broken.write_text("from a_room import numbers\nnumbers.add('one', 1)\n# mended\n")
    assert list(room) == [1, 2]


def test_a_file_may_ask_for_another_while_it_is_imported(room: Registry[int], tmp_path: Path) -> None:
    (tmp_path / "a_room" / "two.py").write_text(
        "from a_room import numbers\nnumbers.add('two', 2 * numbers.get('one'))\n"
    )
    assert room.get("two") == 2


def _table(registry: Registry[Any], folder: str, *others: str) -> None:
    """Hold a room's table against its files; `others` register nothing."""
    files = {path.stem for path in (ROOT / "archsearch" / folder).glob("*.py")} - {"__init__", *others}
    assert registry.files == files
    for name in files:
        assert registry.get(name) is not None


def test_every_file_of_spaces_is_in_its_table() -> None:
    _table(spaces, "spaces", "cells", "choose", "count", "kin", "space", "strides", "teacher")


def test_every_file_of_proxies_is_in_its_table() -> None:
    _table(proxies, "proxies", "proxy", "score")


def test_every_file_of_losses_is_in_its_table() -> None:
    _table(losses, "distill/losses")


def test_every_file_of_formats_is_in_its_table() -> None:
    _table(formats, "export/formats")


def test_every_device_is_in_its_file() -> None:
    _table(devices, "hardware", *(path.stem for path in (ROOT / "archsearch" / "hardware").glob("*.py")))
    assert "cpu-torch" in devices.names()


@pytest.mark.parametrize("table", [SPACES, PROXIES, LOSSES, FORMATS])
def test_tables_are_in_alphabetical_order(table: tuple[str, ...]) -> None:
    assert list(table) == sorted(set(table))


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
        found.append((registry.kind, tuple(map(id, registry))))
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 32 and len(set(found)) == 4, set(found)
"""


def test_threads_that_all_come_first_find_all_entries() -> None:
    subprocess.run([sys.executable, "-c", _AT_ONCE], cwd=ROOT, check=True, timeout=60)
