"""Work whose time and memory nobody can promise, in a child process that is ended when it takes too much.

    found = run(check, {"path": "…"}, what="the check", limit_s=600, memory_bytes=8 * 2**30, cancelled=asked_to_stop)

calls `check(tell, path="…")` in a fresh interpreter. Arguments, progress and result are JSON on pipes. Nothing is
forked, so threads and devices of the parent are no concern. The child ends with its parent: its standard input closes.
"""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch import errors
from archsearch.errors import ArchsearchError, Cancelled, TooMuchMemory, TooSlow
from archsearch.whole import is_full

if TYPE_CHECKING:
    from pydantic import JsonValue

log = logging.getLogger(__name__)

# How the called function says where it stands.
Tell = Callable[["JsonValue"], None]

_LOOK_EVERY_S = 0.1  # at the memory: a process may take some GB in a second
_ASK_EVERY_S = 0.25  # whether it was cancelled, which may be a question to a database


class ChildFailed(Exception):
    """The child failed in a way nobody foresaw; its log has the traceback."""


def run(
    function: Callable[..., JsonValue],
    arguments: Mapping[str, JsonValue],
    *,
    what: str,
    limit_s: float,
    memory_bytes: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[Any], None] = lambda said: None,
    advice: str = "",
) -> Any:
    """What `function(tell, **arguments)` returns, from a child process.

    Args:
        function: Of a module's top level; its arguments and result are JSON. It is imported by name.
        what: For messages, the work in words: `the teacher's check`.
        limit_s: Seconds on the wall, start of the interpreter included.
        memory_bytes: Most bytes the child and its own children hold together, files they map apart (Linux).
        cancelled: Asked four times a second; the child is gone within a second of its yes.
        progress: Called, in this thread, with whatever the function tells. It may raise, which ends the child.
        advice: What to do about a limit that was reached.

    Raises:
        TooSlow, TooMuchMemory: A limit was reached.
        Cancelled: `cancelled` said so.
        ArchsearchError: Whatever the function raised of that tree, as the same class.
        OSError: Of ENOSPC, where the child found no room on a disk.
        ChildFailed: Anything else; the traceback is in the log, which is this process's standard error.
    """
    child = _Child(_name(function), arguments)
    started = asked = time.monotonic()
    try:
        while True:
            for said in child.heard(_LOOK_EVERY_S):
                if "progress" in said:
                    progress(said["progress"])
                else:
                    return _outcome(said, what, advice)
            now = time.monotonic()
            if now - started > limit_s:
                raise TooSlow(_told(f"{what} took more than {limit_s:g} s and was stopped", advice))
            if memory_bytes is not None and child.memory_bytes() > memory_bytes:
                detail = f"{what} used more than {memory_bytes / 1e9:.3g} GB of memory and was stopped"
                raise TooMuchMemory(_told(detail, advice))
            if now - asked >= _ASK_EVERY_S:
                asked = now
                if cancelled():
                    raise Cancelled("cancelled on request")
    finally:
        child.end()


def _outcome(said: dict[str, Any], what: str, advice: str) -> Any:
    """The result, or the error the child ended with."""
    if "result" in said:
        return said["result"]
    if "error" in said:
        raise _rebuilt(**said["error"])
    if said.get("code") == -signal.SIGKILL:  # not by us: nobody but the system's memory keeper does that
        raise TooMuchMemory(_told(f"{what} was killed by the system, most likely for want of memory", advice))
    if said.get("memory"):
        raise TooMuchMemory(_told(f"{what} found no more memory", advice))
    if said.get("full"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise ChildFailed(f"{what} failed: {said.get('failed') or 'its process ended with ' + str(said['code'])}")


def _told(detail: str, advice: str) -> str:
    return f"{detail}; {advice}" if advice else detail


def _name(function: Callable[..., Any]) -> str:
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or not name.isidentifier():
        raise ValueError(f"{module}:{name} cannot be imported by its name")
    return f"{module}:{name}"


class _Child:
    """A fresh interpreter that makes one call, in a session of its own so that all it starts ends with it."""

    def __init__(self, name: str, arguments: Mapping[str, JsonValue]) -> None:
        path = os.pathsep.join(each or os.getcwd() for each in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, name="bounded", daemon=True)
        self._listener.start()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died already; its end is heard
            self._process.stdin.write(json.dumps([name, dict(arguments)]).encode() + b"\n")
            self._process.stdin.flush()

    def heard(self, timeout_s: float) -> Iterator[dict[str, Any]]:
        """What the child has said since, after waiting for something to be said."""
        with suppress(queue.Empty):
            yield self._heard.get(timeout=timeout_s)
            while True:
                yield self._heard.get_nowait()

    def memory_bytes(self) -> int:
        """Memory that the session's processes hold; 0 where there is no /proc to tell."""
        return sum(_held_bytes(pid) for pid in _session(self._process.pid))

    def end(self) -> None:
        """Kill whatever of it still runs."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join(1)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):  # it may be killed in the middle of a word
                self._heard.put(json.loads(line))
        self._heard.put({"code": self._process.wait()})


def _session(leader: int) -> list[int]:
    """The processes of a session: fields 6 of /proc/*/stat, counted behind the command's closing bracket."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == leader:
                found.append(int(path.parent.name))
    return found


def _held_bytes(pid: int) -> int:
    """Anonymous and shared memory of a process. Mapped files are left out: the system drops them when it has to."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:  # it has just ended
        return 0
    kib = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.strip()}
    return 1024 * (int(kib.get("RssAnon", 0)) + int(kib.get("RssShmem", 0)))


def _rebuilt(kind: str, detail: str, field: str | None, extra: dict[str, Any]) -> ArchsearchError:
    """An error of the tree as the child raised it, whatever its class's own `__init__` takes."""
    known = getattr(errors, kind, ArchsearchError)
    error: ArchsearchError = known.__new__(known, detail)
    ArchsearchError.__init__(error, detail, field=field)
    error.__dict__.update(extra)
    return error


# ------------------------------------------------------------------------------------------------ the child


def main() -> None:
    """Make the call that standard input names, and die when it closes."""
    # Whatever libraries print belongs into the log; the pipe is for replies alone.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s bounded %(levelname)s %(message)s")
    name, arguments = json.loads(_first_line())
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def say(said: dict[str, Any]) -> None:
        replies.write(json.dumps(said) + "\n")
        replies.flush()

    say(_called(name, arguments, lambda said: say({"progress": said})))
    # At once: the answer is out, and threads of libraries need not be waited for.
    logging.shutdown()
    sys.stderr.flush()
    os._exit(0)


def _called(name: str, arguments: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The function's result or error as JSON."""
    module, _, function = name.partition(":")
    try:
        return {"result": json.loads(json.dumps(getattr(importlib.import_module(module), function)(tell, **arguments)))}
    except ArchsearchError as error:
        plain = {key: value for key, value in vars(error).items() if isinstance(value, str | int | float | None)}
        kind = next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
        return {"error": {"kind": kind, "detail": error.detail, "field": error.field, "extra": plain}}
    except MemoryError:
        log.exception("%s found no memory", name)
        return {"memory": True}
    except Exception as error:
        log.exception("%s failed", name)
        if is_full(error):
            return {"full": True}
        # Its class alone: texts of libraries name folders and addresses, and the log has them.
        return {"failed": type(error).__name__}


def _first_line() -> bytes:
    """A line of standard input, unbuffered: what follows is for another thread."""
    line = b""
    while not line.endswith(b"\n"):
        read = os.read(0, 65536)
        if not read:
            os._exit(1)
        line += read
    return line


def _die_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)  # and all that was started here


if __name__ == "__main__":
    main()
