"""What the story asks of wherever it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, Protocol

from archsearch.search import Trial
from archsearch.spaces import Recipe

P = ParamSpec("P")
Report = dict[str, Any]


class Once(Protocol):
    """How a finished phase is not repeated: its result is kept by its name, and given back when the story starts again.

    A phase that was cut off is gone through again, and goes on from its trials or its checkpoint.
    """

    def __call__(self, name: str, phase: Callable[P, Report], /, *args: P.args, **kwargs: P.kwargs) -> Report: ...


class Ledger(Protocol):
    """Where a running job writes down what happened. Any call may raise Cancelled."""

    @property
    def folder(self) -> Path:
        """What a later attempt goes on from."""

    @property
    def cache(self) -> Path:
        """Where the teacher's evidence and devices' latencies are kept for later jobs."""

    def trials(self) -> Sequence[Trial]:
        """Trials of earlier attempts, in order."""

    def add(self, trial: Trial, report: Report) -> None:
        """Keep a trial for good before the next one starts."""

    def report(self, report: Report) -> None:
        """Say where the job stands."""

    def warn(self, code: str, detail: str, student: int | None = None) -> None:
        """Tell the user what did not stop the job and may spoil its result; a code is told once in a job's life.

        Args:
            student: Of several, the number of the one it is about; of each of them a code is told once.
        """

    def warnings(self) -> Sequence[Mapping[str, str | int]]:
        """What was warned of so far, in order: code and detail, and of which of several students."""

    def expect(self, spans: Mapping[str, tuple[float, float]]) -> None:
        """Learn where in the whole each phase begins and ends (0 to 1)."""

    def seconds(self, phase: str, student: int | None = None) -> float:
        """Wall time of the phase so far; of several students, of that one's."""

    def new_student(self, place: int = 1) -> str:
        """A place for a student, by the name that results keep of it; what a training cut off left there is gone.

        Args:
            place: Of several that are handed over side by side, the first lies where a single one does.
        """

    def path(self, student: str) -> Path:
        """The folder of a student by such a name; of an earlier attempt's, it may be gone."""

    def publish(self, student: str | None, told: Report, model: Recipe, place: int = 1) -> None:
        """Write the manifest, beside the student if there is one, and hand over what was made.

        Args:
            told: The request as it was settled, and the job's result.
            model: What timm is to build.
            place: Of several, as `new_student` took it; the first is published last.
        """
