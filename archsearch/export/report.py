"""`report.json`: size, parity, accuracy and latency of every format, as measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from archsearch.export.files import REPORT, WEIGHTS
from archsearch.export.format import formats as registered
from archsearch.export.make import REFERENCE, Formats, Made, Parity
from archsearch.whole import write_whole

_HOW = (
    "median and quartiles of one {} on one thread, in the thread's own time where the system tells it; all forms "
    "were timed in turn, block by block, in one process"
)


def write_report(
    folder: Path,
    formats: Formats,
    scores: Mapping[str, float] | None = None,
    *,
    images: int = 0,
    data_sha256: str | None = None,
) -> dict[str, Any]:
    """Write `report.json` and return it; what an earlier report tells of the same weights stays where it still holds.

    Args:
        scores: What the task is judged by, on the test split, by format; None where that was not read.
        images: In the test split (count).
        data_sha256: Of the data whose test split that is.
    """
    weights_sha256 = _sha256(folder / WEIGHTS)
    earlier = _earlier(folder)
    if (earlier.get("weights_sha256"), earlier.get("metric")) != (weights_sha256, formats.judge.key):
        earlier = {}  # of other weights, or judged otherwise
    test = earlier.get("test") if scores is None else {"images": images, "data_sha256": data_sha256}
    kept = {name: row for name, row in earlier.get("formats", {}).items() if (folder / row["file"]).is_file()}
    if test != earlier.get("test"):
        untold = {f"test_{formats.judge.key}": None, "points_lost": None}
        kept = {name: {**row, **untold} for name, row in kept.items()}
    made = {one.name: _row(one, formats, scores or {}) for one in formats.made}
    if scores is None:
        made = {name: _remade(row, kept.get(name, {})) for name, row in made.items()}
    rows = {**kept, **made}
    report = {
        "reference": REFERENCE,
        "weights_sha256": weights_sha256,
        "metric": formats.judge.key,
        "judged_by": formats.judge.describe(),
        "test": test,
        "latency": {"batch": 1, "threads": 1, "how": _HOW.format(formats.timed)},
        "units": {**_units(formats.judge.unit), "*_ms": "milliseconds"},
        "formats": rows,
        "missing": {**{k: v for k, v in earlier.get("missing", {}).items() if k not in rows}, **formats.missing},
    }
    write_whole(folder / REPORT, json.dumps(report, indent=2) + "\n")
    return report


def _units(unit: str) -> dict[str, str]:
    if unit == "%":
        return {"agreement, same_names, test_*, points_lost": "percent", "kl": "nats"}
    return {"agreement, same_names": "percent", "test_*, points_lost": unit, "kl": "nats"}


def brief(report: Mapping[str, Any]) -> dict[str, Any]:
    """What of a report fits into a job's result: the figures of each format, or why it is not there."""
    figures = ("bytes", "max_abs_diff", "agreement", f"test_{report['metric']}", "points_lost", "latency_ms")
    rows = {name: {figure: row.get(figure) for figure in figures} for name, row in report["formats"].items()}
    return {**rows, **{name: {"missing": reason} for name, reason in report["missing"].items()}}


def _row(one: Made, formats: Formats, scores: Mapping[str, float]) -> dict[str, Any]:
    from archsearch.hardware.latency import describe_machine

    score = scores.get(one.name)
    return {
        "file": one.path.name,
        "doc": one.doc,
        "bytes": one.path.stat().st_size,
        "held_out": {"split": formats.held_out, "images": formats.images},
        **asdict(one.parity),
        "from_file": None if one.from_file is None else asdict(one.from_file),
        f"test_{formats.judge.key}": score,
        "points_lost": None if score is None else formats.judge.gain(scores[REFERENCE], over=score),
        "latency_ms": one.latency.median_ms,
        "latency_low_ms": one.latency.low_ms,
        "latency_high_ms": one.latency.high_ms,
        "machine": describe_machine(),
        "made": dict(one.details),
    }


def _remade(row: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """A row made again of the same weights, without a look at the test split: what was measured of it before stays.

    Scales of int8 may have come out otherwise; its test figures hold only for the file they were measured on.
    """
    exact = all(one.exact for one in registered if one.file == row["file"])
    tested = [figure for figure in earlier if exact and (figure.startswith("test_") or figure == "points_lost")]
    # What real images told is not replaced by what noise tells.
    worse = row["held_out"]["split"] == "noise" and earlier.get("held_out", {}).get("split") != "noise"
    held = ["held_out", "from_file", *(field.name for field in fields(Parity))] if exact and worse else []
    return {**row, **{figure: earlier[figure] for figure in (*tested, *held) if figure in earlier}}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _earlier(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / REPORT).read_text())
    except (OSError, ValueError):
        return {}
    return found
