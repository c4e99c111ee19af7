"""How a job looks while it runs: one live line on a terminal or in a notebook, plain lines anywhere else."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from archsearch.unit import written

_PLAIN_EVERY_S = 5.0
# What a line has beside the details, in characters: the phase, the share, and of a bar itself, the clock and gaps, too.
_BESIDE_BAR, _BESIDE_PLAIN = 50, 19
# What is put before the figure of the selection split, by the metric's key.
_SAID = {"balanced_acc": "balanced ", "agreement": "agreement "}
WORDS = {
    "queued": "waiting", "validating": "checking", "searching": "searching", "verifying": "verifying",
    "distilling": "distilling", "exporting": "exporting", "reading": "reading",
}  # fmt: skip


@contextmanager
def shown(listener: Callable[[dict[str, Any]], None] | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What to tell reports to: the listener, or a bar where somebody watches standard error, or nobody."""
    console = Console(file=sys.stderr)
    if listener is not None:
        yield listener
    elif console.is_terminal or console.is_jupyter:
        with Display() as display:
            yield display.show
    else:
        yield lambda report: None


class Display:
    """Draws reports on standard error, so that standard output stays the result's."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        # A notebook draws bars with the help of ipywidgets, and shows lines without it.
        in_notebook = self._console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        self._live = self._console.is_terminal or in_notebook
        self._progress = Progress(
            TextColumn("{task.fields[phase]:<11}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[details]}"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task = self._progress.add_task("", total=1.0, phase="waiting", details="")
        self._phase, self._stage, self._printed_at = "", "", 0.0
        self._reached: dict[str, Any] = {}
        self._warned: set[object] = set()

    def __enter__(self) -> Display:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()

    def show(self, report: dict[str, Any]) -> None:
        """One report: the phase, how far it is, and what is worth saying about it; or a warning."""
        if "warning" in report:
            self.warn(report["warning"])
            return
        phase, done = report["phase"], report.get("progress") or 0.0
        if (why := report.get("precision_why", "")).endswith("measured") and why not in self._warned:
            self._warned.add(why)
            self.note(f"computed in {why}")
        stage = phase if "student" not in report else f"{phase} {report['student']}"
        if stage == self._stage and report.keys() <= {"phase", "student", "students"}:
            return  # a sign of life, with nothing to show
        if report.get("selection_acc") is not None:  # it is measured now and then, and shown until the next time
            self._reached = {"selection_acc": report["selection_acc"]}
        text = details({**report, **self._reached}, self._room())
        if self._live:
            if phase != self._phase and self._phase:
                self._progress.reset(self._task)
            self._progress.update(self._task, completed=done, phase=WORDS.get(phase, phase), details=text)
        elif stage != self._stage or done == 1.0 or time.monotonic() - self._printed_at > _PLAIN_EVERY_S:
            self._printed_at = time.monotonic()
            self._console.print(Text(f"{WORDS.get(phase, phase):<11} {100 * done:3.0f} %  {text}".rstrip()))
        self._phase, self._stage = phase, stage

    def _room(self) -> int:
        """Characters a line has for details, beside the phase, the share and what else a bar has."""
        return self._console.width - (_BESIDE_BAR if self._live else _BESIDE_PLAIN)

    def warn(self, warning: Mapping[str, Any]) -> None:
        """A warning that stays above the bar; each is shown once."""
        told = warning["code"], warning.get("student")
        if told not in self._warned:
            self._warned.add(told)
            self._console.print(warning_text(warning))

    def note(self, text: str) -> None:
        """A line that stays above the bar."""
        self._console.print(Text(text))


def warning_text(warning: Mapping[str, Any]) -> Text:
    """A warning as people see it, in yellow where there are colours."""
    return Text.assemble(("warning: ", "bold yellow"), (warning["detail"], "yellow"))


def details(report: dict[str, Any], room: float = math.inf) -> str:
    """What a report has to say beyond its phase; the loss's terms where a line of `room` characters holds them, too."""
    parts = []
    if "student" in report:
        parts.append(f"student {report['student']}/{report['students']}")
    if "read" in report:
        parts.append(f"{report['read']:,}/{report['of']:,} {report.get('examples', 'images')}")
    if "timing" in report:
        parts.append(f"timing {report['timing']} on {report['device']}")
    if "timed" in report:
        parts.append(f"{report['timed']}/{report['of']} of the front timed")
    if "scored" in report:
        parts.append(f"{report['scored']}/{report['candidates']} scored")
        if report.get("best_score") is not None:
            parts.append(f"best {report['best_score']:.2f} ({count(report['best_params'])} params)")
    if "making" in report:
        parts.append(str(report["making"]))
    if "round" in report:
        parts.append(f"round {report['round']}/{report['rounds']}, {report['contenders']} contenders")
    if report.get("trainings", 1) > 1:
        parts.append("without teacher" if report["training"] == "baseline" else f"seed {report['seed']}")
    if "epoch" in report:
        parts.append(f"epoch {report['epoch']}/{report['epochs']}")
        parts.append(f"loss {report['loss']:.3f}")
        if report.get("selection_acc") is not None:
            said = _SAID.get(report.get("metric", ""), "")
            parts.append(f"selection {said}{written(report['selection_acc'], report.get('unit', '%'))}")
        if report.get("retries"):
            parts.append(f"rolled back {report['retries']}×")
    if report.get("eta_s"):
        parts.append(f"ETA {duration(report['eta_s'])}")
    text = "  ".join(parts)
    terms = " + ".join(f"{name} {value:.3f}" for name, value in report.get("terms", {}).items())
    longer = f"{text}  loss = {terms}"
    return longer if " + " in terms and len(longer) <= room else text


def count(number: float) -> str:
    """1234567 as 1.23M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """95 as 1:35."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
