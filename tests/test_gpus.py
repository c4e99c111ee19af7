"""Which GPUs a service works on, on machines that have some and on machines that have none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archsearch import gpus
from archsearch.data import Dataset
from archsearch.errors import InvalidRequest
from tests.service.server import ROOT, Server, clean, wait, write_npz

THREE = ["0", "1", "2"]


def nvidia_smi(folder: Path, *lines: str, code: int = 0) -> str:
    """A program of that name, first on the path, that says so; returns the path."""
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {code}\n")
    program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("text", "expected"), [("all", THREE), ("0", ["0"]), ("2,0", ["2", "0"]), (" 1 , 1 ", ["1"]), ("01", ["1"])]
)
def test_numbers_and_all(text: str, expected: list[str]) -> None:
    assert gpus.chosen(text, THREE) == expected


@pytest.mark.parametrize(
    ("text", "there", "told"),
    [
        ("0,3,4", THREE, "there is no GPU 3, 4 here, but 0, 1, 2"),
        ("all", [], "nvidia-smi lists no GPU here"),
        ("cuda:0", THREE, "'cuda:0' names no GPUs; give all, or numbers such as 0,1"),
        ("", THREE, "names no GPUs"),
        ("0,", THREE, "names no GPUs"),
        ("-1", THREE, "names no GPUs"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(text: str, there: list[str], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told) as caught:
        gpus.chosen(text, there)
    assert caught.value.field == "gpus"


def test_they_are_counted_by_the_drivers_own_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", nvidia_smi(tmp_path / "bin", "0", "1", "2"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.visible() == THREE
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert gpus.visible() == ["0", "2"]


def test_without_that_program_it_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidRequest, match="there is no nvidia-smi to tell"):
        gpus.chosen("all")


def test_a_driver_that_is_broken_says_so_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", nvidia_smi(tmp_path / "bin", "Failed to initialize NVML", code=9))
    with pytest.raises(InvalidRequest, match="nvidia-smi tells no GPUs: Failed to initialize NVML"):
        gpus.chosen("0")


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_the_service_does_not_start_on_gpus_that_are_not_there(command: str, tmp_path: Path) -> None:
    environment = clean({"PATH": nvidia_smi(tmp_path / "bin", "0", "1")})
    arguments = [sys.executable, "-m", "archsearch", command, "--data-dir", str(tmp_path / "data"), "--gpus", "0,2"]
    found = subprocess.run(arguments, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=60)
    assert found.returncode == 2, found.stderr
    assert "there is no GPU 2 here, but 0, 1" in found.stderr


@pytest.mark.slow
def test_each_gpu_has_a_worker_of_its_own_which_is_started_again_alone(
    tmp_path: Path, few_digits: Dataset, teacher_folder: Path
) -> None:
    """On this machine they compute on its processor: each sees the one GPU it was given, and torch none at all."""
    server = Server(tmp_path / "data", ARCHSEARCH_GPUS="0,1", PATH=nvidia_smi(tmp_path / "bin", "0", "1"))
    try:
        names = {"worker-1-gpu0", "worker-1-gpu1"}

        def living() -> dict[str, str]:
            return {name: note for name, note in server.http.get("/readyz").json()["workers"].items() if note}

        def devices() -> set[str | None]:
            return set(server.http.get("/readyz").json()["devices"].values())

        wait(lambda: living().keys() == names, server.log.read_text)
        pids = {name: int(note.split()[1]) for name, note in living().items()}
        for name, pid in pids.items():
            told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert f"CUDA_VISIBLE_DEVICES={name[-1]}".encode() in told
            assert not any(entry.startswith(b"ARCHSEARCH_GPUS=") for entry in told)
        wait(lambda: None not in devices(), server.log.read_text)
        parts = server.furnish(write_npz(few_digits, tmp_path / "digits.npz"), teacher_folder)
        search = {"space": "resnet_cifar", "candidates": 30}
        jobs = [
            server.submit({"kind": "search", **parts, "budget": {"params": 20_000}, "search": {**search, "seed": seed}})
            for seed in range(2)
        ]
        for job in jobs:
            server.wait_for(job, "succeeded")
        took = [event["data"]["worker"] for job in jobs for event in server.events(job) if event["type"] == "started"]
        assert sorted(took) == sorted(names)
        subprocess.run(["kill", "-9", str(pids["worker-1-gpu1"])], check=True)
        wait(lambda: living().get("worker-1-gpu1", "pid 0").split()[1] not in ("0", str(pids["worker-1-gpu1"])),
             server.log.read_text)  # fmt: skip
        assert int(living()["worker-1-gpu0"].split()[1]) == pids["worker-1-gpu0"], "the other went on"
    finally:
        assert server.stop() == 0
