"""What the service answers a second, and how long it takes: idle, while a search has all cores, with years of rows.

    python -m benchmarks.service [--seconds 10] [--clients 1 16 64 200] [--jobs 10000] [--candidates 1000000]
                                 [--watchers 200] [--requests 100000] [--database URL] [--json FILE] [--smoke]

Starts `archsearch serve` with its worker on an empty folder (with --database on that database, which should be empty),
and asks it over HTTP with wrk, which has to be installed; wrk shares the machine with the server. "idle" and "busy" are
one connection count (the second of --clients); `cpu_ms` is the API process's own time a request, which a busy machine
changes least. Targets: 1,000 requests a second, p99 below 50 ms idle and 150 ms busy, a job running half a second after
its POST, lists below 50 ms (p95), memory that does not grow.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from archsearch.client import Client
from benchmarks.service import rows
from benchmarks.service.load import Load, keep, load, require_wrk
from benchmarks.service.search import add_request, post_to_running, searching, stop
from benchmarks.service.server import Server, serving
from benchmarks.service.watchers import listen

Json = dict[str, Any]
_SMOKE = {
    "seconds": 1, "clients": [1, 4], "jobs": 100, "candidates": 2_000, "watchers": 10, "requests": 1_000, "repeats": 2,
}  # fmt: skip
_JSON = {"Content-Type": "application/json"}
_HEAD = f"{'what':44} {'clients':>7} {'req/s':>7} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'cpu ms':>7} {'failed':>6}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64, 200])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=10, help="jobs whose start is timed")
    parser.add_argument("--database")
    parser.add_argument("--smoke", action="store_true", help="a little of everything, in under a minute")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.smoke:
        parser.set_defaults(**_SMOKE)
        arguments = parser.parse_args()
    require_wrk()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "data", arguments.database) as server,
        Client(server.url) as client,
    ):
        found = Bench(server, client, arguments).all(Path(folder))
    print(json.dumps(found["summary"]))
    keep(arguments.json, found)


class Bench:
    """One run against one server; every line is printed as it is known."""

    def __init__(self, server: Server, client: Client, arguments: Any) -> None:
        self.server, self.client, self.given = server, client, arguments
        self.lines: list[Json] = []
        self.usual = arguments.clients[min(1, len(arguments.clients) - 1)]

    def all(self, folder: Path) -> Json:
        request = add_request(self.client, folder)
        queued = self.client.submit(request)["id"]
        stop(self.client, queued)
        print(_HEAD)
        idle = self._idle(queued)
        started = post_to_running(self.client, request, self.given.repeats)
        print(
            f"POST to running: {started['p50']:.0f} ms (median of {started['repeats']}), {started['worst']:.0f} worst"
        )
        busy, heard = self._busy(request)
        print(f"events to {heard['watchers']} watchers: {heard['p50']:.0f} ms (median), {heard['p99']:.0f} (p99)")
        memory = self._memory(queued)
        grown = f"{memory['before_mib']:.1f} MiB, {memory['requests']:,} requests later {memory['after_mib']:.1f} MiB"
        print(f"memory of the API: {grown}")
        lists = self._lists()
        summary = {
            "get_rps": round(idle.rps),
            "get_p99_ms_idle": round(idle.p99, 1),
            "get_p99_ms_busy": round(busy.p99, 1),
            "post_to_running_ms_p50": round(started["p50"]),
            "list_p95_ms": round(max(line.p95 for line in lists), 1),
        }
        told = {"lines": self.lines, "post_to_running_ms": started, "events_ms": heard, "memory": memory}
        return {**told, "summary": summary}

    def _idle(self, job: str) -> Load:
        path = f"/v1/jobs/{job}"
        found = [self._ask("GET job", path, clients) for clients in self.given.clients]
        known = httpx.get(self.server.url + path, trust_env=False).headers["ETag"]
        self._ask("GET job, not modified", path, self.usual, headers={"If-None-Match": known})
        self._ask("GET jobs", "/v1/jobs?limit=20", self.usual)
        self._ask("POST upload", "/v1/uploads", self.usual, method="POST", body="{}", headers=_JSON)
        return found[self.given.clients.index(self.usual)]

    def _busy(self, request: Json) -> tuple[Load, Json]:
        """GET of a job while a search runs, and its events to many watchers, without and with whom it is asked."""
        with searching(self.client, request) as job:
            path, seconds = f"/v1/jobs/{job}", self.given.seconds
            busy = self._ask("GET job, busy", path, self.usual)
            heard: list[Any] = []
            watching = threading.Thread(
                target=lambda: heard.append(listen(self.server.url, job, self.given.watchers, seconds + 6))
            )
            watching.start()
            self._ask(f"GET job, busy, {self.given.watchers} watchers", path, self.usual)
            watching.join()
        return busy, asdict(heard[0])

    def _memory(self, job: str) -> Json:
        """Memory when all that is made once is there, and so many requests later."""
        asked, before_mib = 0, self.server.rss_mib()
        while asked < self.given.requests:
            asked += load(self.server.url + f"/v1/jobs/{job}", clients=self.usual, seconds=self.given.seconds).requests
        return {"before_mib": before_mib, "after_mib": self.server.rss_mib(), "requests": asked}

    def _lists(self) -> list[Load]:
        rows.fill(self.server.database, self.given.jobs, self.given.candidates)
        many = f"/v1/jobs/{rows.MANY}"
        middle = f"job_{self.given.jobs // 2:020d}"
        paths = [
            "/v1/jobs?limit=50", "/v1/jobs?limit=200", f"/v1/jobs?limit=200&after={middle}",
            "/v1/jobs?limit=200&status=failed", f"/v1/jobs/{middle}", many,
            f"{many}/candidates", f"{many}/candidates?limit=1000", f"{many}/candidates?offset=10000",
            f"{many}/candidates?after={self.given.candidates // 10}", f"{many}/pareto", f"{many}/pareto?against=macs",
            f"{many}/events", "/readyz",
        ]  # fmt: skip
        return [self._ask(f"GET {path}", path, 1) for path in paths]

    def _ask(self, what: str, path: str, clients: int, **options: Any) -> Load:
        before = self.server.cpu_s()
        found = load(self.server.url + path, clients=clients, seconds=self.given.seconds, **options)
        cpu_ms = 1000 * (self.server.cpu_s() - before) / max(1, found.requests)
        times = f"{found.p50:8.1f} {found.p95:8.1f} {found.p99:8.1f} {cpu_ms:7.2f} {found.failed:6}"
        print(f"{what:44} {clients:7} {found.rps:7.0f} {times}", flush=True)
        self.lines.append({"what": what, "clients": clients, "cpu_ms": cpu_ms, **asdict(found)})
        return found


if __name__ == "__main__":
    main()
