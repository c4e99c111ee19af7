"""A server as users start it, on a folder or a database of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Server:
    """Where it answers, its process, and its database's URL."""

    url: str
    pid: int
    database: str

    def rss_mib(self) -> float:
        """Memory the API's process holds now (Linux)."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) / 1024 if found else float("nan")

    def cpu_s(self) -> float:
        """Processor time the API's process has taken (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(folder: Path, database: str | None) -> Iterator[Server]:
    """`archsearch serve` with its worker, ready to answer and to take a job."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = database or f"sqlite:///{folder / 'archsearch.db'}"
    command = [sys.executable, "-m", "archsearch", "serve", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--data-dir", str(folder), "--database-url", url], stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait(f"http://127.0.0.1:{port}/readyz", process)
        yield Server(f"http://127.0.0.1:{port}", process.pid, url)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"the server did not become ready within {_PATIENCE_S:.0f} s")
