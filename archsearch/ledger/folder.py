"""A job's progress as files in a folder, for Python and the shell."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from archsearch.outfolder import begin
from archsearch.request import JobRequest
from archsearch.search import Trial
from archsearch.settings import user_cache
from archsearch.spaces import Cost
from archsearch.whole import read_kept, write_whole

Listener = Callable[[dict[str, Any]], None]

# Every candidate of a folder's search, a line of JSON each: any of them may be distilled later, by its number.
CANDIDATES = "candidates.jsonl"


class FolderLedger:
    """Trials as lines of JSON in a folder, for one request; another request in the same folder starts afresh."""

    def __init__(self, folder: Path, request: JobRequest, listener: Listener) -> None:
        self.folder, self.listener, self.cache = folder, listener, user_cache() / "evidence"
        begin(folder, request.model_dump_json())
        self.path, self.told = folder / "trials.jsonl", folder / "warnings.json"
        self.phase = "validating"

    def once(self, phase: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A phase's result, kept when it ends: a finished search is not gone through again, whatever its time limit."""
        kept = self.folder / f"{phase}.json"
        found = read_kept(kept)
        if isinstance(found, dict):
            return found
        result = run()
        write_whole(kept, json.dumps(result))
        return result

    def trials(self) -> Sequence[Trial]:
        if not self.path.is_file():
            return []
        lines = self.path.read_bytes().splitlines(keepends=True)
        found: list[Trial] = []
        for line in lines:
            try:
                # A line without its end is one the crash cut short; its candidate is scored again.
                found.append(_trial(json.loads(line if line.endswith(b"\n") else b"")))
            except (ValueError, TypeError, KeyError):
                # The same for all that follow: the search goes on from its first candidates, in their order.
                write_whole(self.path, b"".join(lines[: len(found)]))
                break
        return found

    def add(self, trial: Trial, report: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
        self.report(report)

    def report(self, report: dict[str, Any]) -> None:
        self.phase = report["phase"]
        self.listener(report)

    def warn(self, code: str, detail: str) -> None:
        told = self.warnings()
        if code not in (warning["code"] for warning in told):
            warning = {"code": code, "detail": detail}
            write_whole(self.told, json.dumps([*told, warning]))
            self.listener({"phase": self.phase, "warning": warning})

    def warnings(self) -> Sequence[dict[str, str]]:
        found = read_kept(self.told)
        return found if isinstance(found, list) else []


def _trial(values: dict[str, Any]) -> Trial:
    return Trial(**{**values, "cost": Cost(**values["cost"]), "rungs": tuple(values["rungs"])})
