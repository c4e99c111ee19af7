"""A ledger as the phases of one of several students see it: its own folder, its share of the progress, its warnings."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from archsearch.ledger.ledger import Ledger, Report
from archsearch.search import Trial
from archsearch.spaces import Recipe

# Of a search all students' candidates are counted together.
_TOGETHER = ("searching",)


@dataclass
class StudentLedger:
    """The ledger of all, for one.

    Attributes:
        student: Its number, from 1.
        of: How many students there are.
        folder: What its phases go on from later.
        place: Where it is handed over, if it is not the first that is.
        before, share: Of the phase under way, how much of the work was done before it began, and how much is its own
            (0 to 1).
    """

    whole: Ledger
    student: int
    of: int
    folder: Path
    place: int = 1
    before: float = 0.0
    share: float = 1.0
    _phase: str = field(default="", init=False)
    _began: float = field(default=0.0, init=False)

    @property
    def cache(self) -> Path:
        return self.whole.cache

    def trials(self) -> Sequence[Trial]:
        return self.whole.trials()

    def add(self, trial: Trial, report: Report) -> None:
        self.whole.add(trial, self._told(report))

    def report(self, report: Report) -> None:
        self.whole.report(self._told(report))

    def warn(self, code: str, detail: str, student: int | None = None) -> None:
        named = detail if student is not None else f"student {self.student}: {detail}"
        self.whole.warn(code, named, student or self.student)

    def warnings(self) -> Sequence[Mapping[str, str | int]]:
        """Those of this student alone."""
        return [one for one in self.whole.warnings() if one.get("student") == self.student]

    def expect(self, spans: Mapping[str, tuple[float, float]]) -> None:
        self.whole.expect(spans)

    def seconds(self, phase: str, student: int | None = None) -> float:
        return self.whole.seconds(phase, student or self.student)

    def new_student(self, place: int | None = None) -> str:
        return self.whole.new_student(place or self.place)

    def path(self, student: str) -> Path:
        return self.whole.path(student)

    def publish(self, student: str | None, told: Report, model: Recipe, place: int | None = None) -> None:
        self.whole.publish(student, told, model, place or self.place)

    def _told(self, report: Report) -> Report:
        """A report as one of all students'."""
        phase, found = report["phase"], {**report, "student": self.student, "students": self.of}
        if phase != self._phase:
            self._phase, self._began = phase, time.monotonic()
        if phase in _TOGETHER:
            return found
        if report.get("progress") is not None:
            found["progress"] = self.before + self.share * report["progress"]
        if report.get("eta_s") is not None:
            # The others are taken to be as fast as this one, by their share of the work.
            own = time.monotonic() - self._began + report["eta_s"]
            found["eta_s"] = report["eta_s"] + own * (1 - self.before - self.share) / self.share
        return found
