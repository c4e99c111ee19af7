"""Real children: what they return, what they raise, and that nothing of them is left."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from archsearch.bounded import ChildFailed, Tell, run
from archsearch.errors import Cancelled, ImpossibleBudget, TooMuchMemory, TooSlow, Unavailable, UnknownName

PATIENCE_S = 30.0


def bounded(function: Any, limit_s: float = PATIENCE_S, **kwargs: Any) -> Any:
    arguments = {name: kwargs.pop(name) for name in list(kwargs) if name in ("path", "kind", "size", "number")}
    return run(function, arguments, what="the work", limit_s=limit_s, **kwargs)


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process has ended; one that nobody has waited for has."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


# What the children run.


def echo(tell: Tell, *, number: int) -> Any:
    print("this is for the log")
    for i in range(number):
        tell({"done": i})
    return {"pid": os.getpid(), "list": (1, None, "ü")}


def fail(tell: Tell, *, kind: str) -> Any:
    if kind == "unknown":
        raise UnknownName("space", "resnt", ["resnet"], field="search.space")
    if kind == "unavailable":
        raise Unavailable("the hub is away", retry_after_s=7)
    if kind == "budget":
        raise ImpossibleBudget("nothing fits", field="budget.params")
    if kind == "memory":
        raise MemoryError
    if kind == "full":
        Path("/dev/full").write_bytes(b"x")
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "torn":
        _answers().write(b'{"result": [1, 2')
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "left":
        os._exit(7)
    raise RuntimeError("secret /path/of/ours")


def _answers() -> Any:
    """The pipe that answers go through: what standard output was before it became the log."""
    log = os.readlink("/proc/self/fd/1")
    pipes = [fd for fd in range(2, 64) if os.path.exists(f"/proc/self/fd/{fd}")]
    found = next(fd for fd in pipes if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
                 and os.readlink(f"/proc/self/fd/{fd}") not in (log, os.readlink("/proc/self/fd/0")))  # fmt: skip
    return os.fdopen(found, "wb", buffering=0, closefd=False)


def stay(tell: Tell, *, path: str) -> Any:
    """Start a process of its own, write both their numbers down, and stay."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(json.dumps([os.getpid(), child.pid]))
    tell("there")
    time.sleep(600)


def swell(tell: Tell, *, size: int) -> Any:
    held = []
    while True:
        held.append(bytearray(os.urandom(1)) * size)
        time.sleep(0.02)


def test_result_and_progress_come_back_and_prints_go_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[Any] = []
    found = bounded(echo, number=3, progress=heard.append)
    assert found["list"] == [1, None, "ü"]
    assert found["pid"] != os.getpid()
    assert heard == [{"done": i} for i in range(3)]
    assert "this is for the log" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("kind", "expected"), [("unknown", UnknownName), ("unavailable", Unavailable), ("budget", ImpossibleBudget)]
)
def test_errors_of_the_tree_are_raised_as_what_they_were(kind: str, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught:
        bounded(fail, kind=kind)
    assert type(caught.value) is expected
    with pytest.raises(expected) as here:
        fail(print, kind=kind)
    original = here.value
    assert caught.value.problem() == original.problem()
    assert str(caught.value) == str(original)
    assert vars(caught.value) == vars(original)


def test_what_nobody_foresaw_is_named_and_its_traceback_is_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ChildFailed, match="the work failed: RuntimeError") as caught:
        bounded(fail, kind="other")
    assert "secret" not in str(caught.value)
    logged = capfd.readouterr().err
    assert "Traceback" in logged
    assert "secret /path/of/ours" in logged


def test_a_disk_without_room_is_said_so() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        bounded(fail, kind="full")
    assert caught.value.errno == errno.ENOSPC


def test_a_child_that_just_ends_is_told_by_its_code() -> None:
    with pytest.raises(ChildFailed, match="ended with 7"):
        bounded(fail, kind="left")


@pytest.mark.parametrize("kind", ["memory", "killed", "torn"])
def test_memory_that_is_not_to_be_had_is_said_so(kind: str) -> None:
    with pytest.raises(TooMuchMemory, match=r"the work .*memory; take less"):
        bounded(fail, kind=kind, advice="take less")


@pytest.mark.slow
def test_too_slow_a_child_is_ended_with_all_it_started(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    with pytest.raises(TooSlow, match="the work took more than 3 s and was stopped; be quick"):
        bounded(stay, limit_s=3, path=str(path), advice="be quick")
    assert all(gone(pid) for pid in json.loads(path.read_text()))


def test_cancelling_ends_it_within_a_second(tmp_path: Path) -> None:
    path, there = tmp_path / "pids", list[float]()
    with pytest.raises(Cancelled):
        bounded(
            stay,
            path=str(path),
            progress=lambda said: there.append(time.monotonic()),
            cancelled=lambda: bool(there),
        )
    assert time.monotonic() - there[0] < 1
    assert all(gone(pid) for pid in json.loads(path.read_text()))


def test_what_listens_may_end_it_too(tmp_path: Path) -> None:
    def stop(said: Any) -> None:
        raise Cancelled("enough")

    path = tmp_path / "pids"
    with pytest.raises(Cancelled, match="enough"):
        bounded(stay, path=str(path), progress=stop)
    assert all(gone(pid) for pid in json.loads(path.read_text()))


def test_too_much_memory_ends_it_long_before_the_machine_is_full() -> None:
    with pytest.raises(TooMuchMemory, match=r"the work used more than 0\.2 GB"):
        bounded(swell, size=10_000_000, memory_bytes=200_000_000)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "pids"
    code = f"from tests.test_bounded import bounded, stay; bounded(stay, path={str(path)!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each or os.getcwd() for each in sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=Path(__file__).parents[1])
    deadline = time.monotonic() + PATIENCE_S
    while not path.is_file() or not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    assert all(gone(pid) for pid in json.loads(path.read_text()))


def test_what_has_no_name_to_import_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be imported by its name"):
        bounded(lambda tell: None)
