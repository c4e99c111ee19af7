from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsearch.domains.images.task import ImageTask
from archsearch.domains.text.task import TextTask
from archsearch.errors import InvalidRequest
from archsearch.hardware.latency import Latency
from archsearch.hardware.predict import Calibration, fit, pick_members
from archsearch.hardware.profile import (
    FEWEST_ENTRIES,
    MOST_BYTES,
    MOST_ENTRIES,
    Profile,
    make_profile,
    rank_correlation,
    read_profile,
)
from archsearch.spaces import Space, spaces

MACHINE = {"processor": "Cortex-A76", "system": "Linux aarch64", "torch": "2.11.0"}
Body = dict[str, Any]


def calibration(space: Space, task: ImageTask, n: int = 12) -> Calibration:
    """As `calibrate` would leave it, on a device of 1 ms for a million multiply-accumulates."""
    members = pick_members(space, task, None, n, 0)
    times_ms = [space.cost(member, task).macs / 1e6 for member in members]
    latencies = tuple(Latency(ms, 0.9 * ms, 1.1 * ms, 20, "cpu-torch", 1, 1) for ms in times_ms)
    predictor = fit([space.count(member, task) for member in members], times_ms)
    return Calibration(space.name, "cpu-torch", 1, 1, tuple(members), latencies, predictor)


@pytest.fixture(scope="module")
def profile(space: Space, task: ImageTask) -> Profile:
    found = {each.name: calibration(each, task) for each in (space, spaces.get("vit"))}
    return make_profile("a board", "cpu-torch", MACHINE, task, found)


@pytest.fixture
def body(profile: Profile) -> Body:
    return json.loads(profile.model_dump_json())


def read(body: Body) -> Profile:
    return read_profile(json.dumps(body).encode())


def test_a_profile_survives_its_file(profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(profile.model_dump_json())
    assert read_profile(path) == read_profile(path.read_bytes()) == profile


def test_a_profile_predicts_what_it_was_not_shown(profile: Profile, space: Space, task: ImageTask) -> None:
    predictors = profile.predictors(task, 1)
    assert list(predictors) == ["resnet_cifar", "vit"]
    for member in pick_members(space, task, None, 10, 5):
        count = space.count(member, task)
        assert predictors[space.name].predict(count) == pytest.approx(count.macs / 1e6, rel=0.1)


def test_pixel_statistics_are_no_part_of_a_task_here(profile: Profile, task: ImageTask) -> None:
    other = ImageTask(task.classes, 3, task.height, task.width, (0.1,) * 3, (0.9,) * 3, ("a",) * task.classes)
    assert profile.predictors(other, 1) == profile.predictors(task, 1)


@pytest.mark.parametrize(
    ("other", "batch", "field", "words"),
    [
        (
            ImageTask(10, 1, 16, 16, (0.5,), (0.5,)),
            1,
            "budget.device",
            "width 16 and the data has in_chans 1",
        ),
        (ImageTask(10, 3, 32, 32, (0.5,) * 3, (0.5,) * 3), 1, "budget.device", "--image-size 32"),
        (ImageTask(11, 3, 16, 16, (0.5,) * 3, (0.5,) * 3), 1, "budget.device", "--classes 11"),
        (ImageTask(10, 3, 16, 16, (0.5,) * 3, (0.5,) * 3), 8, "budget.batch", "set budget.batch to 1"),
    ],
)
def test_another_task_or_batch_is_refused(
    profile: Profile, other: ImageTask, batch: int, field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as error:
        profile.predictors(other, batch)
    assert error.value.field == field
    assert "a board" in error.value.detail


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"not json", b"[" * 100_000])
def test_what_is_not_json_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="is not JSON") as error:
        read_profile(content)
    assert error.value.field == "profile"


@pytest.mark.parametrize("content", [b"null", b"[]", b"3", b'"profile"'])
def test_json_that_is_no_profile_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_profile(content)
    assert error.value.field == "profile"


def test_a_file_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_bytes(b" " * (MOST_BYTES + 1))
    for source in (path, path.read_bytes()):
        with pytest.raises(InvalidRequest, match="at most 1,000,000 bytes") as error:
            read_profile(source)
        assert error.value.field == "profile"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        read_profile(tmp_path / "none.json")


def swap(body: Body) -> None:
    """Give the largest network the shortest time, and so on."""
    entries = [entry for entry in body["entries"] if entry["space"] == "resnet_cifar"]
    times = sorted((entry["low_ms"], entry["latency_ms"], entry["high_ms"]) for entry in entries)
    for entry, (low, middle, high) in zip(sorted(entries, key=lambda e: -e["latency_ms"]), times, strict=True):
        entry.update(low_ms=low, latency_ms=middle, high_ms=high)


def flat(body: Body) -> None:
    for entry in body["entries"]:
        entry.update(low_ms=1.0, latency_ms=1.0, high_ms=1.0)


REFUSALS: list[tuple[Callable[[Body], object], str, str]] = [
    (lambda b: b.update(format=2), "format", "1"),
    (lambda b: b.pop("machine"), "machine", "required"),
    (lambda b: b.update(nme="x"), "", "did you mean 'name'"),
    (lambda b: b.update(name=""), "name", "at least 1"),
    (lambda b: b.update(name="x" * 201), "name", "at most 200"),
    (lambda b: b.update(batch=0), "batch", "greater than or equal to 1"),
    (lambda b: b.update(threads=0), "threads", "greater than or equal to 1"),
    (lambda b: b["task"].update(height=0), "task.height", "greater than or equal to 1"),
    (lambda b: b["task"].update(classes=1), "task.classes", "greater than or equal to 2"),
    (lambda b: b.update(entries=b["entries"][:7]), "entries", "at least 8"),
    (lambda b: b.update(entries=b["entries"] * 40), "entries", "at most 500"),
    (lambda b: b["entries"][0].update(latency_ms=0), "entries.0.latency_ms", "greater than 0"),
    (lambda b: b["entries"][0].update(latency_ms=-1), "entries.0.latency_ms", "greater than 0"),
    (lambda b: b["entries"][0].update(high_ms=1e6), "entries.0.high_ms", "less than 1000000"),
    (lambda b: b["entries"][0].update(latency_ms=float("nan")), "entries.0.latency_ms", "finite"),
    (lambda b: b["entries"][0].update(high_ms=float("inf")), "entries.0.high_ms", "finite"),
    (lambda b: b["entries"][0].update(latency_ms="fast"), "entries.0.latency_ms", "number"),
    (lambda b: b["entries"][0].update(low_ms=9e5), "entries.0", "low_ms ≤ latency_ms"),
    (lambda b: b["entries"][0].update(space="resnet_cifra"), "entries.0.space", "did you mean 'resnet_cifar'"),
    (lambda b: b["entries"][0]["architecture"].update(depth1=99), "entries.0.architecture.depth1", "99 is not in"),
    (lambda b: b["entries"][0]["architecture"].pop("depth1"), "entries.0.architecture", "'depth1' is missing"),
    (lambda b: b["entries"][0]["architecture"].update(x=1), "entries.0.architecture", "'x' is no parameter"),
    (lambda b: b["entries"][0]["architecture"].update(depth1=1.5), "entries.0.architecture.depth1", "integer"),
    (lambda b: b["entries"].append(b["entries"][0]), "entries.24.architecture", "given before"),
    (lambda b: b.update(entries=b["entries"][:-5]), "entries", "vit has 7 entries and at least 8"),
    (flat, "entries", "all 12 latencies of resnet_cifar are 1 ms"),
    (swap, "entries", "fall as networks grow"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "field", "words"), REFUSALS, ids=[f"{f}-{w}" for _, f, w in REFUSALS])
def test_nonsense_is_refused_by_its_field(spoil: Callable[[Body], object], field: str, words: str, body: Body) -> None:
    spoil(body)
    with pytest.raises(InvalidRequest) as error:
        read(body)
    assert error.value.field == (field or "profile")
    assert words in error.value.detail


def test_a_space_that_takes_no_such_images_is_refused(body: Body) -> None:
    body["task"].update(height=4, width=4)
    with pytest.raises(InvalidRequest) as error:
        read(body)
    assert str(error.value.field).startswith("entries.")


def test_a_profile_of_texts_is_one_of_a_length(tmp_path: Path) -> None:
    task = TextTask(3, 32, 500, 1, pair=False)
    made = make_profile("a board", "cpu-torch", MACHINE, task, {"bert": calibration(spaces.get("bert"), task)})
    told = json.loads(made.model_dump_json())
    assert told["task"] == {"domain": "text_classification", "classes": 3, "max_length": 32, "vocab_size": 500}
    again = read(told)
    assert list(again.predictors(replace(task, pad_id=0, pair=True), 1)) == ["bert"]
    again.require(replace(task, vocab_size=0), 1)  # of a teacher nobody has looked at, and so of any vocabulary yet
    with pytest.raises(InvalidRequest, match="max_length 32, vocab_size 500 and the data has max_length 64") as caught:
        again.require(replace(task, max_length=64), 1)
    assert caught.value.field == "budget.device"
    assert "`archsearch profile --max-length 64 --vocab-size 500`" in caught.value.detail
    with pytest.raises(InvalidRequest, match="was measured on texts and the data are images"):
        again.require(ImageTask(3, 3, 16, 16, (0.5,) * 3, (0.5,) * 3), 1)


@pytest.mark.parametrize(
    ("told", "field", "words"),
    [
        ({"domain": "text_classification", "classes": 3, "max_length": 32}, "task.vocab_size", "Field required"),
        (
            {"domain": "text_classification", "classes": 3, "max_length": 0, "vocab_size": 9},
            "task.max_length",
            "equal to 1",
        ),
        ({"domain": "sound", "classes": 3}, "task.domain", "text_classification"),
        ({"domain": 3, "classes": 3}, "task.domain", "text_classification"),
        ({"classes": 3, "max_length": 32}, "task", "max_length"),
    ],
)
def test_a_task_of_no_domain_s_size_is_refused(body: Body, told: Body, field: str, words: str) -> None:
    body["task"] = told
    with pytest.raises(InvalidRequest, match=words) as caught:
        read(body)
    assert caught.value.field == field


def test_bounds_are_those_promised(body: Body) -> None:
    assert (FEWEST_ENTRIES, MOST_ENTRIES, MOST_BYTES) == (8, 500, 1_000_000)
    body["entries"] = body["entries"][:8]
    assert len(read(body).entries) == 8


def test_rank_correlation_agrees_with_scipy() -> None:
    import numpy as np
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    for _ in range(20):
        a_N, b_N = rng.integers(0, 6, 15).astype(float), rng.integers(0, 6, 15).astype(float)
        assert rank_correlation(a_N, b_N) == pytest.approx(spearmanr(a_N, b_N).statistic)
    assert rank_correlation(np.ones(4), np.arange(4.0)) == 0
