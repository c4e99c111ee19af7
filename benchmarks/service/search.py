"""A search that keeps all cores busy for as long as anybody likes to look at it, and how fast a job is taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from archsearch.client import TERMINAL, Client
from archsearch.teachers import describe_folder
from archsearch.teaching import train_teacher

Json = dict[str, Any]
# Whether its teacher is any good nobody will ask: a search looks at it, and nothing is distilled.
_TEACHER = {"epochs": 4, "batch_size": 64}


def add_request(client: Client, folder: Path) -> Json:
    """A search of handwritten digits, far too long to end, whose teacher the server has checked."""
    train_teacher({"kind": "digits"}, folder / "teacher", spec=_TEACHER, listener=lambda _: None)
    source = describe_folder(folder / "teacher")
    teacher = client.add_teacher(source, weights=folder / "teacher" / "model.safetensors", data={"kind": "digits"})
    return {
        "kind": "search",
        "teacher": {"kind": "teacher", "id": teacher["id"]},
        "data": {"kind": "digits"},
        "budget": {"params_ratio": 0.5},
        "search": {"candidates": 100_000, "sampler": "random"},
    }


@contextmanager
def searching(client: Client, request: Json) -> Iterator[str]:
    """The id of a job that is scoring candidates while the block lasts."""
    job: str = client.submit(request)["id"]
    try:
        while (found := client.job(job))["candidates_scored"] < 2:
            if found["status"] in TERMINAL:
                raise SystemExit(f"the search ended: {found['error']}")
            time.sleep(0.1)
        yield job
    finally:
        stop(client, job)


def stop(client: Client, job: str) -> None:
    """Cancel it, and wait until the worker is free again."""
    client.cancel(job)
    while client.job(job)["status"] not in TERMINAL:
        time.sleep(0.02)


def post_to_running(client: Client, request: Json, repeats: int) -> Json:
    """Milliseconds from just before the POST until a worker, idle before, says that it runs the job."""
    took = [_started(client, request) for _ in range(repeats)]
    return {"repeats": repeats, "p50": median(took), "worst": max(took)}


def _started(client: Client, request: Json) -> float:
    asked = time.time()
    job = client.submit(request)["id"]
    while (found := client.job(job))["started_at"] is None:
        time.sleep(0.005)
    stop(client, job)
    return 1000 * (datetime.fromisoformat(found["started_at"]).timestamp() - asked)
