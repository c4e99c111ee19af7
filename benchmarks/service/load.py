"""Load from wrk (https://github.com/wg/wrk), whose own processor time is next to nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# What wrk prints for people is rounded; this is one line for programs. Times in microseconds.
_SCRIPT = """
wrk.method = %s
wrk.body = %s
%s
function done(summary, latency, requests)
  local failed = summary.errors.status + summary.errors.timeout + summary.errors.connect + summary.errors.read
  io.write(string.format(
    'found {"requests": %%d, "us": %%d, "failed": %%d, "p50": %%d, "p95": %%d, "p99": %%d}\\n',
    summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """Requests a second and milliseconds; `failed` counts those that timed out or were answered with 400 and more."""

    requests: int
    rps: float
    p50: float
    p95: float
    p99: float
    failed: int


def require_wrk() -> None:
    """End with what to do where wrk is missing."""
    if shutil.which("wrk") is None:
        sys.exit("this needs the load generator wrk, e.g. apt-get install wrk")


def load(
    url: str,
    *,
    clients: int,
    seconds: float,
    method: str = "GET",
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Load:
    """Ask again and again over `clients` connections, each as soon as it has been answered."""
    lines = "\n".join(
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in (headers or {}).items()
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % (json.dumps(method), "nil" if body is None else json.dumps(body), lines))
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", script.name]
        told = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    found = json.loads(next(line for line in told.splitlines() if line.startswith("found ")).removeprefix("found "))
    milliseconds = {name: found[name] / 1000 for name in ("p50", "p95", "p99")}
    return Load(found["requests"], 1e6 * found["requests"] / found["us"], **milliseconds, failed=found["failed"])


def keep(path: Path | None, content: object) -> None:
    """The same as the tables, as JSON."""
    if path:
        path.write_text(json.dumps(content, indent=2) + "\n")
