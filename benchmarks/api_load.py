"""How many requests a second the API answers, how long they take, and what that costs: reading, writing, many rows.

    python -m benchmarks.api_load [--seconds 4] [--clients 1 16 64 200] [--database URL] [--rows 200000] [--json FILE]

Starts `archsearch serve --no-worker` on an empty folder (with --database on that database, which should be empty) and
asks over plain sockets, one connection a client, each asking again as soon as it has been answered. `cpu_ms` is the
server's own time a request, which a busy machine changes least. With --rows, a job of so many candidates is inserted
and every question that only reads is timed on it, alone. The clients share the machine with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from archsearch.store.database import connect, session_factory
from archsearch.store.models import Candidate, Job

JOB = {
    "teacher": {"kind": "timm", "name": "resnet18"}, "data": {"kind": "digits"}, "budget": {"params": 50_000},
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table; times in milliseconds."""

    what: str
    clients: int
    rps: float
    p50: float
    p99: float
    cpu_ms: float
    statuses: dict[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 200])
    parser.add_argument("--database")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), arguments.database) as (port, pid, url):
        job = httpx.post(f"http://127.0.0.1:{port}/v1/jobs", json=JOB, trust_env=False).json()["id"]
        asked = [("GET job", "GET", f"/v1/jobs/{job}", None), ("GET jobs", "GET", "/v1/jobs?limit=20", None),
                 ("POST upload", "POST", "/v1/uploads", {}), ("POST job", "POST", "/v1/jobs", JOB)]  # fmt: skip
        rows = [
            measure(what, clients, raw(method, path, body), port, pid, arguments.seconds)
            for what, method, path, body in asked
            for clients in arguments.clients
        ]
        print(f"{'what':12} {'clients':>7} {'req/s':>7} {'p50 ms':>8} {'p99 ms':>8} {'cpu ms':>7}  statuses")
        for row in rows:
            times = f"{row.p50:8.1f} {row.p99:8.1f} {row.cpu_ms:7.2f}"
            print(f"{row.what:12} {row.clients:7} {row.rps:7.0f} {times}  {row.statuses}")
        alone = many_rows(url, port, arguments.rows) if arguments.rows else {}
        for what, milliseconds in alone.items():
            print(f"{what:44} {milliseconds:8.1f} ms")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"load": [asdict(row) for row in rows], "alone_ms": alone}, indent=2) + "\n"
        )


@contextmanager
def serving(folder: Path, database: str | None) -> Iterator[tuple[int, int, str]]:
    """Port, process and database URL of a server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = database or f"sqlite:///{folder / 'archsearch.db'}"
    command = [sys.executable, "-m", "archsearch", "serve", "--no-worker", "--port", str(port)]
    process = subprocess.Popen([*command, "--data-dir", str(folder), "--database-url", url], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield port, process.pid, url
    finally:
        process.kill()  # one that hangs would not end otherwise
        process.wait()


def raw(method: str, path: str, body: Any) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    kind = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\n".encode() + content


def measure(what: str, clients: int, request: bytes, port: int, pid: int, seconds: float) -> Row:
    before = cpu_s(pid)
    started = time.monotonic()
    took, statuses = asyncio.run(hammer(clients, request, port, seconds))
    wall = time.monotonic() - started
    took = sorted(took) or [float("nan")]
    cpu = 1000 * (cpu_s(pid) - before) / len(took)
    p99 = took[min(len(took) - 1, len(took) * 99 // 100)]
    return Row(what, clients, len(took) / wall, 1000 * statistics.median(took), 1000 * p99, cpu, statuses)


async def hammer(clients: int, request: bytes, port: int, seconds: float) -> tuple[list[float], dict[int, int]]:
    """Seconds every answer took, and how many had which status; 0 stands for none within ten seconds."""
    took: list[float] = []
    statuses: dict[int, int] = {}
    until = time.monotonic() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            started = time.monotonic()
            writer.write(request)
            try:
                async with asyncio.timeout(10):
                    status = await answered(reader)
            except (TimeoutError, asyncio.IncompleteReadError):
                status = 0
            took.append(time.monotonic() - started)
            statuses[status] = statuses.get(status, 0) + 1
            if status == 0:
                break
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return took, statuses


async def answered(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split()[1])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def many_rows(url: str, port: int, count: int) -> dict[str, float]:
    """The median of five requests of each kind about a job with so many candidates."""
    insert(url, count)
    paths = ["/v1/jobs/job_many", "/v1/jobs?limit=200", *(f"/v1/jobs/job_many/{rest}" for rest in (
        "candidates", "candidates?limit=1000", "candidates?offset=10000", f"candidates?after={count // 2}",
        "pareto", "pareto?against=macs", "pareto?against=size_bytes", "events",
    ))]  # fmt: skip
    found = {}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
        for path in paths:
            took = []
            for _ in range(5):
                started = time.monotonic()
                client.get(path).raise_for_status()
                took.append(1000 * (time.monotonic() - started))
            found[f"GET {path}"] = statistics.median(took)
    return found


def insert(url: str, count: int) -> None:
    """Candidates whose score grows with their size, as scores do, and one in a hundred that failed."""
    engine, rng = connect(url), random.Random(0)
    with session_factory(engine).begin() as session:
        request = {**JOB, "search": {"trade": "params"}}
        session.add(Job(id="job_many", kind="search", request=request, status="running"))
        session.flush()
        for start in range(0, count, 10_000):
            numbers = range(start, min(start + 10_000, count))
            session.execute(sa.insert(Candidate), [candidate(number, rng) for number in numbers])
    if engine.dialect.name == "postgresql":  # as its own autovacuum does within a minute
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE candidates")
    engine.dispose()


def candidate(number: int, rng: random.Random) -> dict[str, Any]:
    params = rng.randrange(10_000, 1_000_000)
    score = None if number % 100 == 99 else params**0.5 / 100 + rng.gauss(0, 0.5)
    return {
        "job_id": "job_many", "number": number, "space": "resnet", "architecture": {"depth": number},
        "architecture_key": str(number), "params": params, "macs": 100 * params + rng.randrange(10**6),
        "size_bytes": 4 * params, "peak_activation_bytes": None, "latency_ms": None,
        "state": "failed" if score is None else "scored", "score": score, "proxies": {"zen": 1.0},
        "votes": {"zen": 0.5}, "reason": None, "seconds": 0.1, "rung": 0 if score is None else 1,
        "rungs": [] if score is None else [score], "attempt": 1,
    }  # fmt: skip


if __name__ == "__main__":
    main()
