"""What the story asks of wherever it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from archsearch.search import Trial

Report = dict[str, Any]


class Ledger(Protocol):
    """Where a running job writes down what happened. Any call may raise Cancelled."""

    folder: Path
    # Where the teacher's evidence and devices' latencies are kept for later jobs.
    cache: Path

    def trials(self) -> Sequence[Trial]:
        """Trials of earlier attempts, in order."""

    def add(self, trial: Trial, report: Report) -> None:
        """Keep a trial for good before the next one starts."""

    def report(self, report: Report) -> None:
        """Say where the job stands."""

    def warn(self, code: str, detail: str) -> None:
        """Tell the user what did not stop the job and may spoil its result; a code is told once in a job's life."""

    def warnings(self) -> Sequence[Mapping[str, str]]:
        """What was warned of so far, in order: code and detail."""
