"""A training on more images than fit into memory: what it takes, how fast it is, and whether it goes on after a kill.

    python -m benchmarks.large [--images 100000] [--size 224] [--minutes 4] [--json FILE]

Makes a folder of JPEG images (quality 90, textured; 100,000 of 224 px take some 2.5 GB of disk, in a temporary folder
that goes) and a small teacher of a thousand others. Then `archsearch.run` in a process of its own reads them, searches
four candidates and trains the winner for an epoch whose plan has all the images. It is killed (SIGKILL, all processes)
after some minutes of training, begun again, has to go on from its checkpoint, and is stopped after as many minutes
where the epoch is not over by then: `steps` of `steps_planned` were made.

Memory is the PSS of the process and all it starts (RSS where /proc does not tell PSS), looked at five times a second
from beginning to end. `loader_share` is the part of the time between steps that a step waited for its batch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 10
# Images to validate, to test, and to teach the teacher, for each that is learned from, and the most of them.
HELD, MOST_HELD, TAUGHT = 50, 2_000, 1_000
BATCH = 64
_CANVAS, _GRAIN = 1024, 24
_LOOK_EVERY_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=224, help="Height and width of the images, in pixels.")
    parser.add_argument("--minutes", type=float, default=4.0, help="Of training before the kill, and after it.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(json.loads(arguments.child[0]), Path(arguments.child[1]))
        return
    with tempfile.TemporaryDirectory(prefix="large-") as folder:
        found = measure(Path(folder), arguments.images, arguments.size, arguments.minutes)
        for name, value in found.items():
            print(f"{name:>16}  {value:,.3f}" if isinstance(value, float) else f"{name:>16}  {value}", flush=True)
        if arguments.json:
            summary = {name: found[name] for name in ("images", "peak_gib", "images_per_s", "loader_share")}
            arguments.json.write_text(json.dumps({"summary": summary, **found}, indent=2) + "\n")


def measure(folder: Path, images: int, size: int, minutes: float) -> dict[str, Any]:
    """Make the data and the teacher, then train, kill and go on."""
    began = time.monotonic()
    held = max(2 * CLASSES, min(MOST_HELD, images // HELD))
    make(folder / "data", {"train": images, "val": held, "test": held}, size)
    taught = max(20 * CLASSES, min(TAUGHT, images))
    make(folder / "few", {"train": taught, "val": 10 * CLASSES, "test": 2 * CLASSES}, size, seed=1)
    made_s = time.monotonic() - began
    print(f"{images:,} images made in {made_s:,.0f} s, {bytes_of(folder / 'data') / 1e9:.2f} GB", flush=True)
    teach(folder / "few", folder / "teacher", size)
    body = request(folder / "data", folder / "teacher", min(BATCH, max(8, images // 8)))
    first = Attempt.of(body, folder, kill_after_s=60 * minutes)
    again = Attempt.of(body, folder, kill_after_s=60 * minutes, last=True)
    if not again.resumed_at:
        raise SystemExit("it did not go on from its checkpoint")
    wall_s, wait_s = (getattr(first, name) + getattr(again, name) for name in ("wall_s", "wait_s"))
    return {
        "images": images,
        "size": size,
        "peak_gib": max(first.peak_bytes, again.peak_bytes) / 2**30,
        "memory": first.memory,
        "peak_while": max(first, again, key=lambda each: each.peak_bytes).peak_while,
        "images_per_s": (first.shown + again.shown) / wall_s,
        "loader_share": wait_s / wall_s,
        "reading_s": first.reading_s,
        "reading_again_s": again.reading_s,
        "searching_s": first.searching_s,
        "killed_at": first.step,
        "resumed_at": again.resumed_at,
        "steps": again.step,
        "steps_planned": again.steps,
        "finished": again.finished,
        "minutes": (time.monotonic() - began) / 60,
    }


def request(data: Path, teacher: Path, batch: int) -> dict[str, Any]:
    return {
        "teacher": {"kind": "local", "path": str(teacher)},
        "data": {"kind": "image_folder", "path": str(data)},
        "budget": {"macs": 40_000_000},
        "search": {"space": "mobilenet", "candidates": 4},
        "distill": {"epochs": 1, "batch_size": batch, "augment": "crop_flip"},
        "verify": None,
    }


def teach(data: Path, out: Path, size: int) -> None:
    """A small residual network that knows the classes, at 32 px whatever the images have."""
    import archsearch

    spec = {"epochs": 6, "batch_size": 32, "augment": "none"}
    source = {"kind": "image_folder", "path": str(data)}
    told = archsearch.train_teacher(source, out, input_size=min(32, size), spec=spec, listener=lambda _: None)
    print(f"a teacher that is right on {told['selection_acc']:.1f} % of the images to select on", flush=True)


# ---------------------------------------------------------------------------------------------- the data


def make(folder: Path, counts: dict[str, int], size: int, seed: int = 0) -> None:
    """A folder of JPEG images, a folder a split and a class, made by every core."""
    jobs = []
    for at, (split, count) in enumerate(counts.items()):
        for label in range(CLASSES):
            path = folder / split / f"class{label}"
            path.mkdir(parents=True)
            jobs += [(path, label, start, min(start + 500, count)) for start in range(0, count, 500)]
        jobs = [(path, label, start, end) for path, label, start, end in jobs if start < end]
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(_write, size=size, seed=10 * seed + at), jobs))
        jobs = []


def _write(job: tuple[Path, int, int, int], size: int, seed: int) -> None:
    """Those of the images number `start` to `end` that are of a class: its colours in smooth patches, under grain."""
    from PIL import Image

    path, label, start, end = job
    canvas = np.random.default_rng(seed).normal(0, _GRAIN, (_CANVAS, _CANVAS, 1)).astype(np.float32)
    for number in range(start + (label - start) % CLASSES, end, CLASSES):
        rng = np.random.default_rng((seed, number))
        colour = 128 + 70 * np.cos(2 * np.pi * (label / CLASSES + np.arange(3) / 3))
        patches = np.clip(colour + rng.normal(0, 45, (7, 7, 3)), 0, 255).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(patches).resize((size, size), Image.Resampling.BICUBIC), np.float32)
        top, left = rng.integers(0, _CANVAS - size, 2)
        pixels = smooth + canvas[top : top + size, left : left + size]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path / f"{number:07}.jpg", quality=90)


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.jpg"))


# ---------------------------------------------------------------------------------------------- an attempt


@dataclass
class Attempt:
    """One process that does the job, until it is done or killed, and what it told.

    Attributes:
        shown: Images of the steps that were timed, which took `wall_s`, of which `wait_s` for batches.
    """

    peak_bytes: int = 0
    peak_while: str = ""
    memory: str = ""
    reading_s: float = 0.0
    searching_s: float = 0.0
    step: int = 0
    steps: int = 0
    resumed_at: int = 0
    shown: int = 0
    wall_s: float = 0.0
    wait_s: float = 0.0
    finished: bool = False
    marks: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, body: dict[str, Any], folder: Path, *, kill_after_s: float, last: bool = False) -> Attempt:
        command = [sys.executable, "-m", "benchmarks.large", "--child", json.dumps(body), str(folder / "out")]
        # Its own cache, so that nothing is found there that another run has left.
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment)
        assert process.stdout is not None
        found, done = cls(), threading.Event()
        watching = threading.Thread(target=found._watch, args=(process.pid, done))
        watching.start()
        try:
            for said in map(json.loads, process.stdout):
                found._hear(said)
                checkpoint = any((folder / "out").rglob("*.safetensors"))
                if found.wall_s > kill_after_s or (not last and checkpoint and found.step >= found.steps // 2 > 0):
                    break
            else:
                found.finished = process.wait() == 0
                if not found.finished:
                    raise SystemExit(f"the job ended with {process.returncode}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done.set()
            watching.join()
            process.stdout.close()
        return found

    @property
    def phase(self) -> str:
        return next(reversed(self.marks), "starting")

    def _hear(self, said: dict[str, Any]) -> None:
        if "waited_s" in said:
            self.shown, self.wall_s, self.wait_s = said["shown"], said["wall_s"], said["waited_s"]
            self.step, self.steps, self.resumed_at = said["step"], said["steps"], said["resumed_at"]
            return
        first, last = self.marks.setdefault(said["phase"], said["at"]), said["at"]
        if said["phase"] == "reading":
            self.reading_s = last - self.marks["begin"]
        if said["phase"] == "searching":
            self.searching_s = last - first

    def _watch(self, session: int, done: threading.Event) -> None:
        while not done.wait(_LOOK_EVERY_S):
            kinds, total = set(), 0
            for pid in session_of(session):
                kind, size_bytes = held(pid)
                kinds.add(kind)
                total += size_bytes
            if total > self.peak_bytes:
                self.peak_bytes, self.peak_while = total, self.phase
            self.memory = self.memory or "+".join(sorted(kinds))


def session_of(leader: int) -> Iterator[int]:
    """The processes of a session."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[3]) == leader:
                yield int(path.parent.name)


def held(pid: int) -> tuple[str, int]:
    """Memory of a process in bytes, its part of what it shares: `pss`, or `rss` where nobody tells that."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return "pss", 1024 * int(line.split()[1])
    with suppress(OSError):
        return "rss", os.sysconf("SC_PAGE_SIZE") * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return "rss", 0


# ---------------------------------------------------------------------------------------------- its process


def child(body: dict[str, Any], out: Path) -> None:
    """Do the job and tell, a line of JSON each, how far it is and what every step waited for."""
    say({"phase": "begin"})
    import archsearch
    from archsearch.distill.train import train
    from archsearch.domains.image_classification.loaders import Resident
    from archsearch.domains.images import streamed

    streamed.MOST_BYTES = 0  # a smoke goes the same way
    real, total = Resident.epoch, Waits()

    def timed(self: Resident, epoch: int, first: int) -> Iterator[Any]:
        steps = len(self.split) // body["distill"]["batch_size"]
        yield from total.of(real(self, epoch, first), first, steps)

    Resident.epoch = timed  # type: ignore[method-assign]
    if len(list((Path(body["data"]["path"]) / "train").rglob("*.jpg"))) < 10_000:
        assert train.__kwdefaults__ is not None
        train.__kwdefaults__["checkpoint_every_s"] = 0.0  # an epoch of seconds has none but its last
    archsearch.run(body, out, listener=lambda report: say({"phase": report.get("phase", "")}))
    shutil.rmtree(out)


class Waits:
    """What the steps of a training waited for their batches, told after each."""

    def of(self, batches: Iterator[Any], first: int, steps: int) -> Iterator[Any]:
        began, waited_s, shown, step = time.perf_counter(), 0.0, 0, first
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            waited_s += time.perf_counter() - asked
            if batch is None:
                return
            yield batch
            step, shown = step + 1, shown + len(batch.row_B)
            wall_s = time.perf_counter() - began
            told = {"waited_s": waited_s, "wall_s": wall_s, "shown": shown, "step": step, "steps": steps}
            say({**told, "resumed_at": first})


def say(said: dict[str, Any]) -> None:
    print(json.dumps({**said, "at": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main()
