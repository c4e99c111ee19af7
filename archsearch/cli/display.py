"""How a job looks while it runs: one live line on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

_PLAIN_EVERY_S = 5.0
# Columns of a terminal that has room for pictures.
_WIDE = 110
_WORDS = {
    "queued": "waiting", "validating": "checking", "searching": "searching", "verifying": "verifying",
    "distilling": "distilling", "exporting": "exporting", "reading": "reading",
}  # fmt: skip


class Display:
    """Draws reports on standard error, so that standard output stays the result's."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._live = self._console.is_terminal
        self._progress = Progress(
            TextColumn("{task.fields[phase]:<11}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[details]}"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task = self._progress.add_task("", total=1.0, phase="waiting", details="")
        self._phase, self._printed_at = "", 0.0
        self._selection_acc: float | None = None
        self._warned: set[str] = set()

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
        if report.get("selection_acc") is not None:
            self._selection_acc = report["selection_acc"]  # it is measured now and then, and shown until the next time
        text = details({**report, "selection_acc": self._selection_acc})
        if self._live:
            if phase != self._phase and self._phase:
                self._progress.reset(self._task)
            self._progress.update(self._task, completed=done, phase=_WORDS.get(phase, phase), details=text)
        elif phase != self._phase or done == 1.0 or time.monotonic() - self._printed_at > _PLAIN_EVERY_S:
            self._printed_at = time.monotonic()
            self._console.print(Text(f"{_WORDS.get(phase, phase):<11} {100 * done:3.0f} %  {text}".rstrip()))
        self._phase = phase

    def warn(self, warning: Mapping[str, str]) -> None:
        """A warning that stays above the bar; each is shown once."""
        if warning["code"] not in self._warned:
            self._warned.add(warning["code"])
            self._console.print(warning_text(warning))

    def note(self, text: str) -> None:
        """A line that stays above the bar."""
        self._console.print(Text(text))


def warning_text(warning: Mapping[str, str]) -> Text:
    """A warning as people see it, in yellow where there are colours."""
    return Text.assemble(("warning: ", "bold yellow"), (warning["detail"], "yellow"))


def details(report: dict[str, Any]) -> str:
    """What a report has to say beyond its phase."""
    parts = []
    if "read" in report:
        parts.append(f"{report['read']:,}/{report['of']:,} images")
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
            balanced = "balanced " if report.get("metric") == "balanced_acc" else ""
            parts.append(f"selection {balanced}{report['selection_acc']:.1f} %")
        if report.get("retries"):
            parts.append(f"taken back {report['retries']}×")
    if report.get("eta_s"):
        parts.append(f"ETA {duration(report['eta_s'])}")
    return "  ".join(parts)


def show_front(front: Sequence[Mapping[str, Any]], against: str, winner: int | None) -> None:
    """A table of the front, cheapest first, with a bar of the score where there is room; the winner stands out."""
    console = Console()
    scores = [member["score"] for member in front]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    costs = list(dict.fromkeys(("params", "macs", against)))
    table = Table(title=f"Score against {against}")
    table.add_column("number", no_wrap=True)
    table.add_column("network", overflow="fold", min_width=18)
    for column in (*costs, "score"):
        # Quartiles of a latency go to a line of their own where there is no room beside it.
        table.add_column(column, no_wrap=column != "latency_ms", min_width=12 if column == "latency_ms" else None)
    wide = console.width >= _WIDE
    if wide:
        table.add_column("", no_wrap=True)
    for member in front:
        length = round(10 * (member["score"] - low) / (high - low)) if high > low else 10
        architecture = " ".join(f"{name}={value}" for name, value in member["architecture"].items())
        table.add_row(
            str(member["number"]),
            f"{member['space']} {architecture}",
            *(cost_text(member, name) for name in costs),
            f"{member['score']:.3f}",
            *(["█" * max(1, length)] if wide else []),
            style="bold green" if member["number"] == winner else None,
        )
    console.print(table)


def show_verified(verified: Mapping[str, Any]) -> None:
    """A table of the candidates that were distilled briefly, best first, with the rank their score had given them."""
    plan = verified["rounds"]
    epochs = ", ".join(f"{one['contenders']} for {one['epochs']} epochs" for one in plan)
    table = Table(title=f"Verified by brief distillation: {epochs}, {duration(verified['training_s'])} in all")
    table.add_column("rank", justify="right")
    table.add_column("by score", justify="right")
    table.add_column("number", justify="right")
    table.add_column("network", overflow="fold", min_width=18)
    for one in plan:
        table.add_column(f"% after {one['epochs']}", justify="right")
    for candidate in verified["candidates"]:
        (accs,) = (value for name, value in candidate.items() if name.startswith("selection_"))
        shown = [*("failed" if acc is None else f"{acc:.1f}" for acc in accs), *[""] * (len(plan) - len(accs))]
        architecture = " ".join(f"{name}={value}" for name, value in candidate["architecture"].items())
        table.add_row(
            str(candidate["rank"]),
            str(candidate["rank_by_score"]),
            str(candidate["number"]),
            f"{candidate['space']} {architecture}",
            *shown,
            style="bold green" if candidate["rank"] == 1 else None,
        )
    Console().print(table)


def cost_text(member: Mapping[str, Any], name: str) -> str:
    """A cost as people read it; a latency with its quartiles where it was timed, and with ~ where it was predicted."""
    if name != "latency_ms":
        return count(member[name])
    if measured := member.get("measured"):
        return f"{measured['latency_ms']:.3g} ms ({measured['low_ms']:.3g}–{measured['high_ms']:.3g})"
    return f"~{member[name]:.3g} ms"


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
