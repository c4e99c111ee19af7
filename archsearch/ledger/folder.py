"""A job's progress as files in a folder, for Python and the shell."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ParamSpec

from archsearch import export
from archsearch.ledger.ledger import Report
from archsearch.outfolder import STUDENTS, WORK, begin
from archsearch.request import JobRequest
from archsearch.search import Trial
from archsearch.settings import user_cache
from archsearch.spaces import Cost, Recipe
from archsearch.whole import read_kept, write_whole

P = ParamSpec("P")
Listener = Callable[[Report], None]

# Every candidate of a folder's search, a line of JSON each: any of them may be distilled later, by its number.
CANDIDATES = "candidates.jsonl"
# Phases whose results are kept. The others are gone through again: validation and export look at files that may have
# changed since, and a training goes on from its checkpoint.
_KEPT = ("search", "winner", "verify")


class FolderLedger:
    """Trials as lines of JSON beneath the folder a student goes to; another request's are removed.

    Args:
        out: Where the student goes; the ledger's own folder is inside it.
        request: As it was asked.
    """

    def __init__(self, out: Path, request: JobRequest, listener: Listener) -> None:
        self.out, self.request, self.listener = out, request, listener
        self.folder, self.cache = out / WORK, user_cache() / "evidence"
        begin(self.folder, request.model_dump_json())
        self._listing, self._told = self.folder / "trials.jsonl", self.folder / "warnings.json"
        self._phase, self._began = "validating", time.monotonic()

    def once(self, name: str, phase: Callable[P, Report], /, *args: P.args, **kwargs: P.kwargs) -> Report:
        """A phase's result, kept when it ends: a finished search is not gone through again, whatever its time limit."""
        self._began = time.monotonic()
        if name == "validate":  # what was settled stays as it was
            found = phase(*args, **kwargs)
            return {**found, "settled": self._kept("settled", lambda: found["settled"])}
        kept = name.rstrip("0123456789 ") in _KEPT  # of several students, each has a number
        return self._kept(name, lambda: phase(*args, **kwargs)) if kept else phase(*args, **kwargs)

    def trials(self) -> Sequence[Trial]:
        if not self._listing.is_file():
            return []
        lines = self._listing.read_bytes().splitlines(keepends=True)
        found: list[Trial] = []
        for line in lines:
            try:
                # A line without its end is one the crash cut short; its candidate is scored again.
                found.append(_trial(json.loads(line if line.endswith(b"\n") else b"")))
            except (ValueError, TypeError, KeyError):
                # The same for all that follow: the search goes on from its first candidates, in their order.
                write_whole(self._listing, b"".join(lines[: len(found)]))
                break
        return found

    def add(self, trial: Trial, report: dict[str, Any]) -> None:
        with self._listing.open("a") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
        self.report(report)

    def report(self, report: dict[str, Any]) -> None:
        self._phase = report["phase"]
        self.listener(report)

    def warn(self, code: str, detail: str, student: int | None = None) -> None:
        told = self.warnings()
        if (code, student) not in ((warning["code"], warning.get("student")) for warning in told):
            warning = {"code": code, "detail": detail, **({} if student is None else {"student": student})}
            write_whole(self._told, json.dumps([*told, warning]))
            self.listener({"phase": self._phase, "warning": warning})

    def warnings(self) -> Sequence[dict[str, str | int]]:
        found = read_kept(self._told)
        return found if isinstance(found, list) else []

    def expect(self, spans: Mapping[str, tuple[float, float]]) -> None:
        """Listeners are told of each phase by itself."""

    def seconds(self, phase: str, student: int | None = None) -> float:
        return time.monotonic() - self._began

    def new_student(self, place: int = 1) -> str:
        if place == 1:
            return "."
        shutil.rmtree(self.out / STUDENTS / str(place), ignore_errors=True)
        return f"{STUDENTS}/{place}"

    def path(self, student: str) -> Path:
        return self.out / student

    def publish(self, student: str | None, told: Report, model: Recipe, place: int = 1) -> None:
        folder = self.out if student is None else self.path(student)
        # Where relative paths of the request begin, as seen from the folder, for whoever goes on from elsewhere.
        start = {"asked_from": {"path": os.path.relpath(Path.cwd().resolve(), folder.resolve())}}
        if place > 1:
            export.write_manifest(folder, {**start, **told}, model)
            return
        write_whole(self.out / CANDIDATES, "".join(json.dumps(asdict(trial)) + "\n" for trial in self.trials()))
        asked = {"asked": self.request.model_dump(mode="json"), **start}
        export.write_manifest(self.out, {**asked, **told}, model)

    def _kept(self, name: str, run: Callable[[], Report]) -> Report:
        kept = self.folder / f"{name}.json"
        found = read_kept(kept)
        if isinstance(found, dict):
            return found
        result = run()
        write_whole(kept, json.dumps(result))
        return result


def _trial(values: dict[str, Any]) -> Trial:
    return Trial(**{**values, "cost": Cost(**values["cost"]), "rungs": tuple(values["rungs"])})
