"""What clients hand in, over HTTP: read by the worker, bounded, and deleted again."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archsearch.errors import ServiceError
from tests.service.conftest import House
from tests.service.server import PATIENCE_S, Server, wait

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def many_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip that takes seconds to read: thirty thousand images of two classes, no two alike."""
    picture, rng = io.BytesIO(), np.random.default_rng(0)
    Image.new("RGB", (8, 8)).save(picture, "BMP")
    header = picture.getvalue()[:54]
    path = tmp_path_factory.mktemp("many") / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(30_000):
            archive.writestr(f"{'cat' if i % 2 else 'dog'}/{i}.bmp", header + rng.bytes(8 * 8 * 3))
    return path


def readings(server: Server) -> list[str]:
    """Command lines of the child processes that read for the server's worker."""
    worker, found = server.worker_pid(), []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if parent == worker and "archsearch.bounded" in command:
            found.append(command)
    return found


def peak_bytes(pid: int) -> int:
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return 1024 * int(kib)


def within(seconds: float, condition: Callable[[], bool]) -> None:
    wait(condition, lambda: f"not within {seconds} s", seconds)


def test_a_long_reading_answers_at_once_tells_its_progress_and_stops_when_it_is_deleted(
    house: House, many_images: Path
) -> None:
    client, server = house.server.client, house.server
    upload = client.upload(many_images)
    assert client.upload(many_images) == upload  # content that is there is not sent again
    body = {"upload": upload["id"], "format": "image_folder", "image_size": 32}
    started = time.monotonic()
    answer = server.http.post("/v1/datasets", json=body)
    assert (answer.status_code, time.monotonic() - started < 2) == (202, True)
    path = answer.headers["location"]
    seen: list[float] = []

    def half_way() -> bool:
        seen.append(server.http.get(path).json()["progress"])
        return seen[-1] > 0

    wait(half_way, lambda: f"no progress: {server.http.get(path).text}")
    assert readings(server)
    assert server.http.delete(path).status_code == 204
    within(5, lambda: not readings(server))
    id = path.rpartition("/")[2]
    within(5, lambda: not list((server.folder / "datasets").glob(f"*{id}*")))
    # The lane is free again, and what is asked for anew is read anew.
    told: list[float] = []
    listener = lambda row: told.append(row["progress"])  # noqa: E731
    found = client.add_dataset(many_images, "image_folder", image_size=32, listener=listener)
    assert (found["status"], sum(found["splits"].values())) == ("ready", 30_000)
    assert found["id"] != id
    assert told == sorted(told)
    client.delete(found["id"])


def test_bombs_and_large_files_never_reach_the_apis_memory(house: House, tmp_path: Path) -> None:
    server = house.server
    before = peak_bytes(server.process.pid)
    zeros = {"x_train": np.zeros((100_000, 32, 32), np.uint8), "y_train": np.arange(100_000) % 2}
    np.savez_compressed(tmp_path / "bomb.npz", **zeros)  # some hundred kB
    with pytest.raises(ServiceError, match="as in a zip bomb") as caught:
        server.client.add_dataset(tmp_path / "bomb.npz", "npz")
    assert caught.value.body["field"] == "x_train"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3000, 128, 128, 3), dtype=np.uint8)
    np.savez(tmp_path / "large.npz", x_train=images, y_train=np.arange(3000) % 3)
    found = server.client.add_dataset(tmp_path / "large.npz", "npz")
    assert found["status"] == "ready"
    assert peak_bytes(server.process.pid) - before < 120e6  # parts of 32 MB pass through; the data has 147
    server.client.delete(found["id"])


def test_a_teachers_check_stops_when_it_is_deleted(house: House, many_images: Path) -> None:
    """It waits behind a reading in its lane, and neither is done once both are deleted."""
    server = house.server
    upload = server.client.upload(many_images)["id"]
    data = server.http.post(
        "/v1/datasets", json={"upload": upload, "format": "image_folder", "image_size": 40}
    ).headers["location"]
    source = {"kind": "timm", "name": "hf-hub:nobody/nothing"}
    teacher = server.http.post("/v1/teachers", json={"source": source}).headers["location"]
    wait(lambda: bool(readings(server)), lambda: server.log.read_text())
    for path in (teacher, data):
        assert server.http.delete(path).status_code == 204
    within(5, lambda: not readings(server))
    assert server.http.get(teacher).status_code == 404


def test_the_shell_deletes_and_tells_what_is_kept(house: House, tmp_path: Path) -> None:
    server = house.server
    (tmp_path / "a.bin").write_bytes(b"x" * 1000)
    upload = server.client.upload(tmp_path / "a.bin")["id"]
    search = {"space": "resnet_cifar", "candidates": 5000, "batch_size": 32}
    job = server.submit(house.request(kind="search", search=search))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "archsearch", *arguments, "--url", server.url]
        return subprocess.run(command, text=True, capture_output=True, check=False, timeout=PATIENCE_S)

    kept: dict[str, Any] = json.loads(run("storage", "--json").stdout)
    assert kept["kept"]["uploads"]["count"] >= 2
    teacher = house.named["teacher"]["id"]
    refused = run("delete", teacher)
    assert (refused.returncode, f"needs teacher {teacher}" in refused.stderr) == (2, True), refused.stderr
    server.client.cancel(job)
    server.wait_for(job, "cancelled")
    gone = run("delete", upload, job)
    assert (gone.returncode, gone.stdout) == (0, f"{upload} deleted\n{job} deleted\n"), gone.stderr
    assert (server.http.get(f"/v1/jobs/{job}").status_code, run("delete", job).returncode) == (404, 5)
    within(5, lambda: not (server.folder / "jobs" / job).exists())
    table = run("storage").stdout
    assert {"kind", "uploads", "datasets"} <= set(table.split())
    assert max(map(len, table.splitlines())) <= 80
