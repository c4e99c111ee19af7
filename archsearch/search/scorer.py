"""A process that scores candidates for a search: it is given the batch once, and then one candidate after another.

`scorers.py` starts it. What is said is a JSON object a line; tensors come in an open file that has no name any more.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from archsearch.memory import keep_freed
from archsearch.request import SearchSpec
from archsearch.search.bench import Bench, climb
from archsearch.search.packing import candidate, unpacked

log = logging.getLogger(__name__)


def main() -> None:
    """Score what standard input asks for until it closes, which it does when the parent ends, however that happens."""
    keep_freed()
    # Whatever libraries print belongs into the log; the pipe is for answers alone.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s scorer %(levelname)s %(message)s")
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()

    def say(said: Mapping[str, Any]) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    spec, bench = _opened(json.loads(lines.get()), int(sys.argv[1]))
    say({"ready": True})
    while True:
        say(_answered(spec, bench, json.loads(lines.get())))


def _opened(setup: dict[str, Any], descriptor: int) -> tuple[SearchSpec, Bench]:
    import torch

    torch.set_num_threads(setup["threads"])
    if setup["device"] != "cpu":
        torch.cuda.set_device(setup["device"])
    for module in setup["modules"]:
        importlib.import_module(module)
    content = _read(descriptor, setup["bytes"])
    bench = unpacked(content, setup["layout"], setup["task"], setup["seeds"], setup["device"])
    return SearchSpec.model_validate(setup["spec"]), bench


def _answered(spec: SearchSpec, bench: Bench, told: dict[str, Any]) -> dict[str, Any]:
    (space, architecture), bars = candidate(told), told["bars"]
    started = time.monotonic()
    try:
        climbed = climb(spec, space, bench, architecture, lambda rung, value: value < bars[rung], told["start"])
    except Exception as error:  # told to nobody but the parent, which will see for itself
        log.info("%s %s", space.name, dict(architecture), exc_info=True)
        return {"id": told["id"], "raised": type(error).__name__}
    reached = [asdict(score) for score in climbed.reached]
    seconds = time.monotonic() - started
    return {"id": told["id"], "reached": reached, "reason": climbed.reason, "seconds": seconds}


def _read(descriptor: int, size: int) -> bytes:
    """The whole file; processes that share it do not move its place."""
    found = bytearray()
    while len(found) < size:
        read = os.pread(descriptor, min(size - len(found), 2**26), len(found))
        if not read:
            raise EOFError(f"{size} bytes were announced, and {len(found)} are there")
        found += read
    os.close(descriptor)
    return bytes(found)


def _listen(lines: queue.SimpleQueue[bytes]) -> None:
    # Not sys.stdin: an ordinary exit would find its lock taken by this thread, and abort.
    waiting = b""
    while read := os.read(0, 2**16):
        *whole, waiting = (waiting + read).split(b"\n")
        for line in whole:
            lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
