"""A real `archsearch serve` in a process of its own, on a free port, and ways to be rough with it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from archsearch.client import Client
from archsearch.data import Dataset
from archsearch.engine import living_workers
from archsearch.teachers import describe_folder

ROOT = Path(__file__).parents[2]
# Generous, as tests may share two cores with anything; a wait that succeeds takes no longer than it has to.
PATIENCE_S = 120.0


class Server:
    """One server on a data folder. Ended and started again, it stands for the same service."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.log = folder, folder.with_name(f"{folder.name}.log")
        self.database = folder / "archsearch.db"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "archsearch", "serve", "--port", str(self.port), "--data-dir", str(folder)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=clean(environment), stdout=log, stderr=log)
        self.client = Client(self.url)
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        wait(self._answers, lambda: f"the server did not start:\n{self.log.read_text()}")

    def worker_pid(self) -> int | None:
        """The living worker's, from the lock it holds."""
        found = [re.match(r"pid (\d+) ", note) for note in living_workers(self.folder / "workers").values()]
        return int(found[0][1]) if found and found[0] else None

    def kill_worker(self) -> int:
        """`kill -9`; returns when it is gone."""
        pid = self.worker_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait(lambda: self.worker_pid() != pid, lambda: f"worker {pid} survived")
        return pid

    def kill(self) -> None:
        self.process.kill()
        self._gone()

    def stop(self) -> int:
        """SIGTERM, as `docker stop` does; returns the exit code."""
        self.process.terminate()
        self._gone()
        return self.process.returncode

    def _gone(self) -> None:
        self.process.wait(30)
        self.client.close()
        self.http.close()

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    # What a client does.

    def furnish(self, npz: Path, teacher: Path) -> dict[str, Any]:
        """Upload data and teacher; returns the two fields of a request that name them."""
        data = {"kind": "dataset", "id": self.client.add_dataset(npz, "npz", name="digits")["id"]}
        row = self.client.add_teacher(
            describe_folder(teacher), weights=teacher / "model.safetensors", data=data, wait_s=PATIENCE_S
        )
        assert row["status"] == "ready", row
        return {"data": data, "teacher": {"kind": "teacher", "id": row["id"]}}

    def submit(self, request: Mapping[str, Any]) -> str:
        return str(self.client.submit(request)["id"])

    def wait_for(self, job_id: str, *statuses: str, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """The job, once it has one of these statuses."""
        job: dict[str, Any] = {}

        def arrived() -> bool:
            job.update(self.client.job(job_id))
            assert job["status"] in statuses or job["finished_at"] is None, job
            return job["status"] in statuses

        wait(arrived, lambda: f"{job}\n{self.log.read_text()}", within_s)
        return job

    def events(self, job_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := self.http.get(f"/v1/jobs/{job_id}/events", params={"after": len(found)}).json():
            found += page
        return found


def wait(condition: Callable[[], bool], complaint: Callable[[], str], within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.03)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without anyone's own settings of archsearch, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARCHSEARCH_")}
    return {**kept, **environment}


def write_npz(dataset: Dataset, path: Path) -> Path:
    arrays = {}
    for name in ("train", "selection", "test"):
        split = getattr(dataset, name)
        arrays |= {f"x_{name}": split.x_NHWC, f"y_{name}": split.y_N}
    np.savez(path, **arrays)
    return path
