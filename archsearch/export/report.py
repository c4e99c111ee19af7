"""`report.json`: size, parity, accuracy and latency of every format, as measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from archsearch.export.files import REPORT
from archsearch.export.make import REFERENCE, Formats, Made

_HOW = (
    "median and quartiles of one image on one thread, in the thread's own time where the system tells it; all forms "
    "were timed in turn, block by block, in one process"
)


def write_report(
    folder: Path, formats: Formats, scores: Mapping[str, float] | None = None, *, images: int = 0
) -> dict[str, Any]:
    """Write `report.json` and return it; formats of an earlier report stay in it as long as their files are there.

    Args:
        scores: What the task is judged by, in percent, on the test split, by format; None where that was not read.
        images: In the test split (count).
    """
    from archsearch.hardware.latency import describe_machine

    earlier = _earlier(folder)
    rows = {name: row for name, row in earlier.get("formats", {}).items() if (folder / row["file"]).is_file()}
    rows |= {one.name: _row(one, formats, scores or {}) for one in formats.made}
    report = {
        "reference": REFERENCE,
        "metric": formats.metric,
        "test": None if scores is None else {"images": images},
        "latency": {"batch": 1, "threads": 1, "how": _HOW, "machine": describe_machine()},
        "units": {"agreement, test_*, points_lost": "percent", "kl": "nats", "*_ms": "milliseconds"},
        "formats": rows,
        "missing": {**{k: v for k, v in earlier.get("missing", {}).items() if k not in rows}, **formats.missing},
    }
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    return report


def brief(report: Mapping[str, Any]) -> dict[str, Any]:
    """What of a report fits into a job's result: the figures of each format, or why it is not there."""
    figures = ("bytes", "max_abs_diff", "agreement", f"test_{report['metric']}", "points_lost", "latency_ms")
    rows = {name: {figure: row[figure] for figure in figures} for name, row in report["formats"].items()}
    return {**rows, **{name: {"missing": reason} for name, reason in report["missing"].items()}}


def _row(one: Made, formats: Formats, scores: Mapping[str, float]) -> dict[str, Any]:
    score = scores.get(one.name)
    return {
        "file": one.path.name,
        "doc": one.doc,
        "bytes": one.path.stat().st_size,
        "held_out": {"split": formats.held_out, "images": formats.images},
        **asdict(one.parity),
        f"test_{formats.metric}": score,
        "points_lost": None if score is None else scores[REFERENCE] - score,
        "latency_ms": one.latency.median_ms,
        "latency_low_ms": one.latency.low_ms,
        "latency_high_ms": one.latency.high_ms,
        "made": dict(one.details),
    }


def _earlier(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / REPORT).read_text())
    except (OSError, ValueError):
        return {}
    return found
