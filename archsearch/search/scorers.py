"""Processes that score candidates side by side: started, given work, listened to, replaced, ended."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Protocol

from archsearch.device import cores
from archsearch.errors import TooMuchMemory
from archsearch.hardware.devices import pinned
from archsearch.memory import available_bytes, gigabytes
from archsearch.proxies import proxies
from archsearch.request import SearchSpec
from archsearch.search.bench import Bench
from archsearch.search.packing import packed
from archsearch.spaces import Space

log = logging.getLogger(__name__)

# What a process holds beside the batch once it has scored a few candidates; docs/decisions/0032 has the measurement.
_PROCESS_BYTES = 700 * 2**20
# `auto`: a process starts in seconds, and shorter searches are over by then, or nearly.
_WORTH = 64
# `auto`: as many as the guesses of a sampler that looks at scores keep busy.
_MOST = 8
# Processes in a row that end before they are ready, after which no more are started.
_FALSE_STARTS = 3


@dataclass(frozen=True)
class Crew:
    """How many processes score candidates, each with how many threads, and where."""

    processes: int
    threads: int
    devices: tuple[str, ...]


def crew(spec: SearchSpec, device: str) -> Crew:
    """Who scores the candidates of a search.

    Args:
        device: `cuda` means every GPU that is seen, `cuda:1` that one.

    Raises:
        TooMuchMemory: There is not enough for the processes that were asked for.
    """
    import torch

    places = (device,) if device != "cuda" else tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))
    count = spec.workers if spec.workers != "auto" else _worth(spec, cores() if device == "cpu" else len(places))
    threads = torch.get_num_threads()
    if count > 1:
        threads = max(1, min(threads, cores() // count))
        # More than there are cores only wait for one another; how many there are decides no number.
        count = _room_for(min(count, max(cores(), 2)), asked=spec.workers != "auto")
    return Crew(count, threads, tuple(places[i % len(places)] for i in range(count)))


def _worth(spec: SearchSpec, places: int) -> int:
    if spec.candidates < _WORTH or spec.sampler == "gp":  # which takes longer over a proposal than a score takes
        return 1
    return min(places, _MOST)


def _room_for(count: int, *, asked: bool) -> int:
    """So many processes, or as many as there is memory for where nobody asked for a number."""
    free = available_bytes()
    if count * _PROCESS_BYTES <= free:
        return count
    if asked:
        raise TooMuchMemory(
            f"{count} processes take about {gigabytes(count * _PROCESS_BYTES)} of memory, and {gigabytes(free)} are "
            "free; give a smaller search.workers, or auto",
            field="search.workers",
        )
    return max(1, int(free // _PROCESS_BYTES))


@dataclass
class Told:
    """What came of the processes.

    Attributes:
        threads: That each of them computed with, on which a score's last bits depend; 0 where there was one process.
        guesses: Candidates that were scored before it was certain that they would be proposed.
        used: Those of them that were.
        lost: Processes that ended over a candidate, or were killed.
    """

    processes: int
    threads: int = 0
    guesses: int = 0
    used: int = 0
    lost: int = 0


class Pool(Protocol):
    """What scores candidates side by side.

    Attributes:
        idle: Processes that wait for a candidate.
        ready: Those that are there at all.
        threads: That each of them computes with.
    """

    told: Told
    threads: int

    @property
    def idle(self) -> int: ...

    @property
    def ready(self) -> int: ...

    def start(self, name: str, asked: Mapping[str, Any]) -> None:
        """Give a candidate to an idle process."""

    def finished(self, *, wait: bool) -> list[tuple[str, Mapping[str, Any]]]:
        """Candidates that came back, by the name they were given under: an answer, or how the process `ended`.

        Args:
            wait: For anything to happen, be it that a process is ready.
        """


@contextmanager
def side_by_side(
    spec: SearchSpec, bench: Bench, spaces: Sequence[Space] = (), device: str | None = None
) -> Iterator[Scorers | None]:
    """The processes a search asks for, which end with the block; None where one is enough, which is this one.

    Args:
        spaces: That are searched.
        device: As the request has it, `cuda` for every GPU; the bench's own by default.
    """
    if spec.workers == 1:
        yield None
        return
    found = crew(spec, device or str(bench.device))
    modules = strangers(spaces)
    if "__main__" in modules:
        log.warning("what a script registers is known to that process alone, which scores all candidates: no module")
    if found.processes == 1 or "__main__" in modules:
        # What memory there was decides how many processes, never what they compute.
        with pinned(found.threads):
            yield None
        return
    scorers = Scorers(spec, bench, found, modules)
    try:
        yield scorers
    finally:
        scorers.close()


@dataclass
class _Process:
    popen: subprocess.Popen[bytes]
    device: str
    ready: bool = False
    task: str | None = None
    listener: threading.Thread = field(init=False)


class Scorers:
    """A pool of `scorer` processes."""

    def __init__(self, spec: SearchSpec, bench: Bench, crew: Crew, modules: Sequence[str] = ()) -> None:
        self.told, self.threads = Told(crew.processes, crew.threads), crew.threads
        self._heard: queue.SimpleQueue[tuple[_Process, dict[str, Any] | None]] = queue.SimpleQueue()
        self._false_starts = 0
        content, layout = packed(bench)
        # Its name is gone at once: nothing is left of it, however this process ends.
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._file.write(content)
        self._file.flush()
        self._setup = {
            "spec": spec.model_dump(mode="json"),
            "task": {"domain": bench.task.domain, **asdict(bench.task)},  # type: ignore[call-overload]
            "seeds": [rung.seeds for rung in bench.rungs],
            "layout": layout,
            "bytes": len(content),
            "threads": crew.threads,
            "modules": list(modules),
        }
        self._processes: list[_Process] = []
        try:
            for device in crew.devices:
                self._launch(device)
        except BaseException:
            self.close()
            raise

    @property
    def idle(self) -> int:
        return sum(process.ready and process.task is None for process in self._processes)

    @property
    def ready(self) -> int:
        return sum(process.ready for process in self._processes)

    @property
    def pids(self) -> list[int]:
        return [process.popen.pid for process in self._processes]

    def start(self, name: str, asked: Mapping[str, Any]) -> None:
        """See Pool."""
        process = next(process for process in self._processes if process.ready and process.task is None)
        process.task = name
        self._say(process, {"id": name, **asked})

    def finished(self, *, wait: bool) -> list[tuple[str, Mapping[str, Any]]]:
        """See Pool."""
        found: list[tuple[str, Mapping[str, Any]]] = []
        with suppress(queue.Empty):
            while True:
                found += self._noted(*self._heard.get(block=wait))
                wait = False
        return found

    def close(self) -> None:
        """Kill all of them."""
        for process in self._processes:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.popen.pid, signal.SIGKILL)
        for process in self._processes:
            self._bury(process)
        self._processes = []
        self._file.close()

    def _launch(self, device: str) -> None:
        path = os.pathsep.join(each or os.getcwd() for each in sys.path)
        threads = str(self.threads)
        popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "archsearch.search.scorer", str(self._file.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self._file.fileno(),),
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            # An interrupted shell tells all of its processes; these are ended by their parent.
            start_new_session=True,
        )
        process = _Process(popen, device)
        self._processes.append(process)
        process.listener = threading.Thread(target=self._listen, args=(process,), name="scorer", daemon=True)
        process.listener.start()
        self._say(process, {**self._setup, "device": device})

    def _say(self, process: _Process, what: Mapping[str, Any]) -> None:
        assert process.popen.stdin is not None
        with suppress(BrokenPipeError):  # it died already; its end is heard
            process.popen.stdin.write(json.dumps(what).encode() + b"\n")
            process.popen.stdin.flush()

    def _listen(self, process: _Process) -> None:
        assert process.popen.stdout is not None
        for line in process.popen.stdout:
            if line.endswith(b"\n"):  # it may be killed in the middle of a word
                self._heard.put((process, json.loads(line)))
        self._heard.put((process, None))

    def _noted(self, process: _Process, said: dict[str, Any] | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What a message says of a candidate, if anything."""
        if said is None:
            yield from self._lost(process)
        elif "ready" in said:
            process.ready, self._false_starts = True, 0
        else:
            process.task = None
            yield said["id"], said

    def _lost(self, process: _Process) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """A process ended that was not to: another one takes its place."""
        self._processes.remove(process)
        code = self._bury(process)
        self._false_starts += not process.ready
        self.told.lost += process.ready
        log.warning("a process that scores candidates ended with %s", code)
        if self._false_starts < _FALSE_STARTS:
            self._launch(process.device)
        if process.task is not None:
            yield process.task, {"ended": code}

    def _bury(self, process: _Process) -> int:
        code = process.popen.wait()
        if process.listener is not threading.current_thread():
            process.listener.join(1)
        for pipe in (process.popen.stdin, process.popen.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        return code


def strangers(spaces: Sequence[Space]) -> list[str]:
    """Modules that have to be imported for the same scores beside this package's own: of proxies and spaces that others
    registered."""
    modules = {proxy.measure.__module__ for proxy in proxies} | {space.model.__module__ for space in spaces}
    return sorted(module for module in modules if module.partition(".")[0] != "archsearch")
