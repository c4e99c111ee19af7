"""Durable jobs: the one room that knows DBOS. The API enqueues with `EngineClient`, a `Worker` runs.

What it promises: a committed `enqueue` is run; a finished step is never run again; a step that was cut off or
raised is run again; the workflows of a dead worker are taken over by a living one, and those of a living one never.
An error that passes by itself, such as a database that is away, ends no workflow.
"""

from archsearch.engine.client import Engine, EngineClient, Lane
from archsearch.engine.worker import (
    StartAgain,
    Worker,
    living_workers,
    patiently,
    pause,
    step,
    tell_device,
    worker_devices,
)

__all__ = [
    "Engine",
    "EngineClient",
    "Lane",
    "StartAgain",
    "Worker",
    "living_workers",
    "patiently",
    "pause",
    "step",
    "tell_device",
    "worker_devices",
]
