from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from archsearch.domains.images.task import ImageTask
from archsearch.hardware.latency import Latency
from archsearch.hardware.predict import calibrate, calibration
from archsearch.request import Architecture
from archsearch.spaces import Space, spaces
from tests.hardware.predict.arithmetic import device_ms


def test_calibrating_times_fits_and_reports(space: Space, task: ImageTask, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    state = torch.get_rng_state()
    found = calibrate(
        space, task, "cpu-torch", 1, n=6, cache=tmp_path, report=lambda done, total: seen.append((done, total)),
        feasible=lambda member: space.count(member, task).params < 60_000,
    )  # fmt: skip
    assert seen == [(done, 6) for done in range(1, 7)]
    assert torch.get_rng_state().equal(state)
    assert (found.space, found.device, found.batch, found.threads) == ("resnet_cifar", "cpu-torch", 1, 1)
    assert len(found.members) == len(found.latencies) == found.predictor.members == 6
    assert all(found.predictor.predict(space.count(member, task)) > 0 for member in found.members)
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What is timed, on a device of arithmetic."""
    calls: list[tuple[object, ...]] = []

    def instead(space: Space, task: ImageTask, member: Architecture, device: str, batch: int, threads: int) -> Latency:
        calls.append((space.name, device, batch, threads))
        milliseconds = batch * device_ms(space.count(member, task))
        return Latency(milliseconds, milliseconds, milliseconds, 1, device, batch, threads)

    monkeypatch.setattr(calibration, "_time", instead)
    return calls


def test_a_calibration_is_made_once(space: Space, task: ImageTask, tmp_path: Path, timed: list[object]) -> None:
    first = calibrate(space, task, "cpu-torch", 1, cache=tmp_path)
    assert len(timed) == 20
    assert calibrate(space, task, "cpu-torch", 1, cache=tmp_path) == first
    assert len(timed) == 20


def test_another_question_is_another_calibration(
    space: Space, task: ImageTask, tmp_path: Path, timed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(**other: object) -> None:
        asked = {"space": space, "task": task, "device": "cpu-torch", "batch": 1, "threads": 1, **other}
        calibrate(
            asked["space"], asked["task"], asked["device"], asked["batch"], threads=asked["threads"], cache=tmp_path
        )  # type: ignore[arg-type]

    others: list[dict[str, object]] = [
        {}, {"space": spaces.get("vit")}, {"task": dataclasses.replace(task, classes=11)}, {"batch": 2},
        {"task": dataclasses.replace(task, height=32, width=32)}, {"threads": 2},
    ]  # fmt: skip
    for asked, other in enumerate(others, 1):
        ask(**other)
        assert len(timed) == 20 * asked
    monkeypatch.setattr(calibration, "describe_machine", lambda: {"processor": "another"})
    ask()
    assert len(timed) == 20 * (len(others) + 1)
    # Statistics of the pixels change no latency.
    ask(task=dataclasses.replace(task, mean=(0.1,) * 3))
    assert len(timed) == 20 * (len(others) + 1)


@pytest.mark.parametrize("content", ["", "[]", '[{"median_ms": 1}]', "{"])
def test_a_broken_file_is_measured_again(
    content: str, space: Space, task: ImageTask, tmp_path: Path, timed: list[object]
) -> None:
    first = calibrate(space, task, "cpu-torch", 1, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(content)
    assert calibrate(space, task, "cpu-torch", 1, cache=tmp_path) == first
    assert len(timed) == 40


def test_a_cache_that_cannot_be_written_stops_nothing(
    space: Space, task: ImageTask, tmp_path: Path, timed: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    calibrate(space, task, "cpu-torch", 1, cache=tmp_path / "file")
    assert "cannot be" in caplog.text
