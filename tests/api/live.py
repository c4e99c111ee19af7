"""A real server of the API alone, in a process of its own, and many clients at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.service.server import ROOT, clean, free_port, wait


@dataclass(frozen=True)
class Live:
    """Where it listens, and what it wrote to its log."""

    port: int
    log: Path
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def live_server(folder: Path, **environment: str) -> Iterator[Live]:
    """`archsearch serve` without a worker; settings by their ARCHSEARCH_ names."""
    port = free_port()
    names = clean({"ARCHSEARCH_DATA_DIR": str(folder), "ARCHSEARCH_PORT": str(port), **environment})
    path = folder.with_name(f"{folder.name}.log")
    with (
        path.open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "archsearch", "serve", "--no-worker"], cwd=ROOT, env=names, stdout=log, stderr=log
        ) as process,
    ):
        server = Live(port, path, process.pid)
        try:
            wait(lambda: _answers(process, server), path.read_text)
            yield server
        finally:
            process.terminate()


def _answers(process: subprocess.Popen[bytes], server: Live) -> bool:
    assert process.poll() is None, server.log.read_text()
    try:
        return httpx.get(f"{server.url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Answers:
    """What many clients were told."""

    statuses: dict[int, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Ask:
    """One request; `body` is sent as JSON unless it is bytes."""

    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


async def ask(port: int, request: Ask, within_s: float) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body, over a connection of its own; a library is slower than a thousand clients need."""
    async with asyncio.timeout(within_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            raw = isinstance(request.body, bytes)
            content = b"" if request.body is None else request.body if raw else json.dumps(request.body).encode()
            headers = {"Host": f"127.0.0.1:{port}", "Connection": "close", **request.headers}
            if request.body is not None:
                headers |= {"Content-Length": str(len(content))} | ({} if raw else {"Content-Type": "application/json"})
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"{request.method} {request.path} HTTP/1.1\r\n{head}\r\n".encode() + content)
            await writer.drain()
            answer = await reader.read()
        finally:
            writer.close()
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, body


async def all_at_once(port: int, requests: list[Ask], within_s: float, *, tries: int = 1) -> Answers:
    """Every request from a client of its own, all at the same moment; one told to come again does, `tries` times."""
    told = Answers()

    async def one(request: Ask) -> None:
        for left in reversed(range(tries)):
            started = time.monotonic()
            try:
                status, headers, body = await ask(port, request, within_s)
            except (TimeoutError, OSError) as error:
                told.unexpected.append(f"{request.method} {request.path}: {type(error).__name__} {error}")
                return
            told.seconds.append(time.monotonic() - started)
            told.statuses[status] = told.statuses.get(status, 0) + 1
            if status == 503 and "retry-after" in headers:
                if left:
                    await asyncio.sleep(int(headers["retry-after"]))
                continue
            if status >= 400:
                told.unexpected.append(f"{request.method} {request.path}: {status} {body[:300]!r}")
            elif body:
                told.bodies.append(json.loads(body))
            return

    await asyncio.gather(*(one(request) for request in requests))
    return told
