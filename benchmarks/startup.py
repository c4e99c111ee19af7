"""How long the API takes from the command to its first answer.

    python -m benchmarks.startup [--repeats 5] [--json FILE]

Starts `archsearch serve --no-worker` on an empty data folder and asks /healthz until it answers. Beside it, in the same
turns: a bare interpreter that imports FastAPI and SQLAlchemy, which no such service can do without.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pairs = [(bare(), start()) for _ in range(arguments.repeats)]
    summary = {
        "bare_s": median(bare for bare, _ in pairs),
        "serve_s": median(served for _, served in pairs),
        "over_bare": median(served / bare for bare, served in pairs),
    }
    print(f"bare imports {summary['bare_s']:.2f} s, serve {summary['serve_s']:.2f} s, ratio {summary['over_bare']:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(summary, indent=2) + "\n")


def bare() -> float:
    """Seconds for an interpreter that only imports."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import fastapi, sqlalchemy, uvicorn"], check=True)
    return time.perf_counter() - started


def start() -> float:
    """Seconds from the command to the first answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        serve = [sys.executable, "-m", "archsearch", "serve", "--no-worker"]
        command = [*serve, "--port", str(port), "--data-dir", folder]
        started = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            return answered(port) - started
        finally:
            process.terminate()
            process.wait(10)


def answered(port: int) -> float:
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).raise_for_status()
            return time.perf_counter()
        except httpx.TransportError:
            time.sleep(0.01)
    sys.exit("the server did not answer in a minute")


if __name__ == "__main__":
    main()
