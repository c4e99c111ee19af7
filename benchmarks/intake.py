"""What intake costs: requests that only ask the database, and what is read outside them.

    python -m benchmarks.intake [--repeats 20] [--json FILE]

Starts `archsearch serve` on an empty data folder. The first table is milliseconds of a request, median and slowest,
with nothing else going on; the second is seconds until a worker has told what it makes of a file, with the peak memory
of the API's process beside it, which must not know how large the file is once it is unpacked.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from archsearch.client import Client
from archsearch.domains.images import DIGITS
from archsearch.errors import ServiceError
from archsearch.spaces import spaces

Json = dict[str, Any]
JOB: Json = {"kind": "search", "teacher": {"kind": "timm", "name": "resnet18"}, "data": {"kind": "digits"}}
JOBS: dict[str, Json] = {
    "POST /v1/jobs, auto": {"budget": {"params": 50_000}},
    "POST /v1/jobs, impossible": {"budget": {"params": 3}},
    "POST /v1/jobs, hardly possible": {"budget": {"params": 50_000, "peak_activation_bytes": 4000}},
}


@dataclass(frozen=True)
class Service:
    """A running server with its client."""

    client: Client
    http: httpx.Client
    pid: int

    def peak_mb(self) -> float:
        """Most memory the API's process has held so far, in MB (Linux)."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return 1.024e-3 * int(found[1]) if found else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "data") as running:
        files = list(make_files(Path(folder)))
        found = {"requests": requests(running, arguments.repeats), "files": [read(running, *each) for each in files]}
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def requests(running: Service, repeats: int) -> list[Json]:
    """Milliseconds of requests that have nothing to do but ask the database."""
    profile = running.client.add_profile(write_profile(240))
    asked: dict[str, Callable[[], httpx.Response]] = {
        name: lambda changes=changes: running.http.post("/v1/jobs", json={**JOB, **changes})  # type: ignore[misc]
        for name, changes in JOBS.items()
    }
    timed = {"budget": {"latency_ms": 1.0, "device": profile["id"]}, "search": {"space": "resnet_cifar"}}
    asked["POST /v1/jobs, a profile of 240"] = lambda: running.http.post("/v1/jobs", json={**JOB, **timed})
    for path in ("jobs", "datasets", f"profiles/{profile['id']}"):
        asked[f"GET /v1/{path.split('_')[0]}"] = lambda path=path: running.http.get(f"/v1/{path}")  # type: ignore[misc]
    return [{"request": name, **measure(ask, repeats)} for name, ask in asked.items()]


def measure(ask: Callable[[], httpx.Response], repeats: int) -> Json:
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        status = ask().status_code
        times.append(1000 * (time.perf_counter() - started))
    return {"status": status, "first_ms": times[0], "median_ms": median(times[1:]), "slowest_ms": max(times[1:])}


def read(running: Service, name: str, path: Path, format: str) -> Json:
    """Upload a file and wait for the worker's word on it."""
    upload = running.client.upload(path)
    before, started = running.peak_mb(), time.perf_counter()
    answer = running.http.post("/v1/datasets", json={"upload": upload["id"], "format": format})
    answered_ms = 1000 * (time.perf_counter() - started)
    row = answer.json()
    while row["status"] == "checking":
        time.sleep(0.02)
        row = running.http.get(f"/v1/datasets/{row['id']}").json()
    return {
        "file": name,
        "size_bytes": path.stat().st_size,
        "answered_ms": answered_ms,
        "seconds": time.perf_counter() - started,
        "api_grew_mb": running.peak_mb() - before,
        "told": row["status"] if row["error"] is None else row["error"]["code"],
    }


def make_files(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Honest and dishonest ones: name, path and format of each."""
    rng = np.random.default_rng(0)
    honest = rng.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "honest.npz", x_train=honest, y_train=np.arange(50_000) % 100)
    yield "50,000 images of 32×32", folder / "honest.npz", "npz"
    zeros = np.zeros((500_000, 32, 32, 2), np.uint8)
    np.savez_compressed(folder / "zeros.npz", x_train=zeros, y_train=np.arange(500_000) % 2)
    yield "a gigabyte of zeros, npz", folder / "zeros.npz", "npz"
    with zipfile.ZipFile(folder / "zeros.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(16):
            archive.writestr(f"{'cat' if i % 2 else 'dog'}/{i}.png", bytes(2**26 - 1))
    yield "a gigabyte of zeros, zip", folder / "zeros.zip", "image_folder"
    for format, ending in (("npz", ".npy"), ("image_folder", ".png")):
        many = io.BytesIO()
        with zipfile.ZipFile(many, "w") as archive:
            for i in range(400_000):
                archive.writestr(f"{'cat' if i % 2 else 'dog'}/{i}{ending}", b"")
        (folder / f"many.{format}").write_bytes(many.getvalue())
        yield f"400,000 members, {format}", folder / f"many.{format}", format


def write_profile(entries: int) -> Path:
    """What a phone might have told of so many networks of one space."""
    space, rng = spaces.get("resnet_cifar"), random.Random(0)
    members: dict[tuple[int, ...], Json] = {}
    while len(members) < entries:
        architecture = {p.name: rng.choice(p.values) for p in space.parameters(DIGITS)}
        latency = 0.1 + space.cost(architecture, DIGITS).macs / 1e6 * rng.uniform(0.9, 1.1)
        members[tuple(architecture.values())] = {
            "space": space.name, "architecture": architecture, "latency_ms": latency, "low_ms": 0.98 * latency,
            "high_ms": 1.02 * latency,
        }  # fmt: skip
    body = {
        "name": "phone", "device": "cpu-torch", "machine": {"processor": "a", "system": "b", "torch": "c"},
        "task": {"classes": 10, "in_chans": 1, "height": 8, "width": 8}, "batch": 1, "threads": 1,
        "entries": list(members.values()),
    }  # fmt: skip
    path = Path(tempfile.mkdtemp()) / "profile.json"
    path.write_text(json.dumps(body))
    return path


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [sys.executable, "-m", "archsearch", "serve", "--port", str(port), "--data-dir", str(folder)]
    process = subprocess.Popen(serve, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        http = httpx.Client(base_url=url, timeout=600, trust_env=False)
        for _ in range(1200):
            try:
                if http.get("/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        yield Service(Client(url, timeout_s=600), http, process.pid)
    except ServiceError as error:
        sys.exit(str(error))
    finally:
        process.terminate()
        process.wait(30)


def show(found: Json) -> None:
    print(f"{'request':<34}{'status':>7}{'first ms':>10}{'median':>9}{'slowest':>9}")
    for row in found["requests"]:
        times = (row["first_ms"], row["median_ms"], row["slowest_ms"])
        print(f"{row['request']:<34}{row['status']:>7}{times[0]:>10.2f}{times[1]:>9.2f}{times[2]:>9.2f}")
    print(f"\n{'file':<30}{'MB':>8}{'answered ms':>13}{'seconds':>9}{'API grew MB':>13}  told")
    for row in found["files"]:
        print(f"{row['file']:<30}{row['size_bytes'] / 1e6:>8.2f}{row['answered_ms']:>13.2f}{row['seconds']:>9.2f}"
              f"{row['api_grew_mb']:>13.2f}  {row['told']}")  # fmt: skip


if __name__ == "__main__":
    main()
