"""Real processes that score candidates: the same trials to the bit, and nothing is left of them."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from archsearch.data import Dataset
from archsearch.domains.images.task import ImageTask
from archsearch.errors import TooMuchMemory
from archsearch.evidence import NetworkEvidence
from archsearch.hardware import Limits, Ruler
from archsearch.request import SearchSpec
from archsearch.search import Bench, Rung, Trial, crew, prepare, scorers, search, side_by_side
from archsearch.search.bench import climb
from archsearch.search.packing import asked, candidate, packed, unpacked
from archsearch.spaces import spaces
from archsearch.teachers import Teacher

LIMITS = Limits(params=60_000, macs=2_000_000)
SPACES = [spaces.get("resnet_cifar"), spaces.get("vit")]


def exactly(trials: Sequence[Trial]) -> list[dict]:
    """Everything of the trials but the time they took."""
    return [asdict(replace(trial, seconds=0.0)) for trial in trials]


def alone(spec: SearchSpec, bench: Bench, done: Sequence[Trial] = (), limits: Limits = LIMITS) -> list[Trial]:
    return list(search(spec, bench, Ruler(bench.task, limits, trade=spec.trade), SPACES, done))


def together(
    spec: SearchSpec,
    bench: Bench,
    limits: Limits = LIMITS,
    each: Callable[[list[Trial], scorers.Scorers], None] = lambda trials, pool: None,
) -> tuple[list[Trial], scorers.Told]:
    """The same by two processes that are there from the first candidate on; `each` sees every trial."""
    with side_by_side(spec.model_copy(update={"workers": 2}), bench, SPACES) as pool:
        assert pool is not None
        while pool.ready < 2:
            pool.finished(wait=True)
        trials: list[Trial] = []
        for trial in search(spec, bench, Ruler(bench.task, limits, trade=spec.trade), SPACES, pool=pool):
            trials.append(trial)
            each(trials, pool)
    return trials, pool.told


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process ends; one that waits to be reaped has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.02)
                continue
        return True
    return False


def test_two_processes_one_of_which_is_killed_tell_the_trials_of_one(bench: Bench, spec) -> None:
    pids: set[int] = set()

    def kill(trials: list[Trial], pool: scorers.Scorers) -> None:
        pids.update(pool.pids)
        if len(trials) == 5:
            os.kill(pool.pids[0], signal.SIGKILL)

    trials, told = together(spec(candidates=22), bench, each=kill)
    assert exactly(trials) == exactly(alone(spec(candidates=22), bench))
    assert 0 < told.used <= told.guesses
    assert all(map(gone, pids))


def test_a_bench_and_a_candidate_arrive_as_they_were_sent(bench: Bench, spec, gray_task) -> None:
    content, layout = packed(bench)
    task = {"domain": gray_task.domain, **asdict(gray_task)}
    found = unpacked(content, layout, task, [rung.seeds for rung in bench.rungs], "cpu")
    mine, theirs = bench.rungs[-1], found.rungs[-1]
    assert found.task == bench.task
    for one, other in ((mine.x, theirs.x), (mine.y_B, theirs.y_B), (mine.teacher.logits_BK, theirs.teacher.logits_BK)):
        assert one.equal(other)
        assert (one.stride(), one.dtype) == (other.stride(), other.dtype)
    space, architecture = candidate(asked(SPACES[1], bench, SPACES[1].smallest(gray_task)))
    one, other = (
        climb(spec(), each, where, architecture, lambda rung, value: False)
        for each, where in ((SPACES[1], bench), (space, found))
    )
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("name", [space.name for space in spaces if space.domain == "image_classification"])
def test_networks_of_every_space_survive_the_way(colour_task: ImageTask, spec, name: str) -> None:
    space, generator = spaces.get(name), torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(8, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    evidence = NetworkEvidence(torch.randn(8, 100, generator=generator))
    bench = Bench(colour_task, (Rung(x_BCHW, torch.arange(8), evidence, 1),))
    # The smallest of nasbench201 is no network at all.
    middle = {p.name: p.values[(len(p.values) - 1) // 2] for p in space.parameters(colour_task)}
    member = middle if space.benchmark else space.smallest(colour_task)
    told = json.loads(json.dumps(asked(space, bench, member)))
    there, architecture = candidate(told)
    one, other = (climb(spec(), each, bench, architecture, lambda rung, value: False) for each in (space, there))
    assert one == other
    assert len(one.reached) == 1


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "evolution", "nsga2"])
def test_samplers_of_every_kind_tell_the_same_to_the_bit(bench: Bench, spec, sampler: str) -> None:
    wants = spec(sampler=sampler, candidates=40)
    trials, told = together(wants, bench)
    assert exactly(trials) == exactly(alone(wants, bench))
    assert told.used > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "limits"),
    [
        ({"halving": 2, "batch_size": 64, "seeds": 2}, LIMITS),
        ({"trade": "macs"}, LIMITS),
        ({"score": {"semantic": 1.0}}, Limits(params=25_000)),
        ({"patience": 5, "candidates": 200}, LIMITS),
    ],
    ids=["halving", "trade", "failures", "patience"],
)
def test_what_decides_in_order_decides_the_same(teacher: Teacher, few_digits: Dataset, spec, fields, limits) -> None:
    wants = spec(**{"candidates": 30, **fields})
    bench = prepare(wants, teacher, few_digits)
    trials, told = together(wants, bench, limits)
    assert exactly(trials) == exactly(alone(wants, bench, limits=limits))
    assert told.guesses > 0


@pytest.mark.slow
def test_all_end_within_a_second_of_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = """
import sys, time, torch
from archsearch.domains.images.task import ImageTask
from archsearch.evidence import NetworkEvidence
from archsearch.request import SearchSpec
from archsearch.search import Bench, Rung, side_by_side
x, y = torch.zeros(8, 1, 8, 8), torch.zeros(8, dtype=torch.int64)
bench = Bench(ImageTask(10, 1, 8, 8, (0.5,), (0.5,)), (Rung(x, y, NetworkEvidence(torch.zeros(8, 10)), 1),))
with side_by_side(SearchSpec(workers=2), bench) as pool:
    while pool.ready < 2:
        pool.finished(wait=True)
    print(*pool.pids, flush=True)
    time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with closing(parent.stdout):
        pids = list(map(int, parent.stdout.readline().split()))
        assert len(pids) == 2
        parent.kill()
        parent.wait()
    assert all(gone(pid, within_s=2.0) for pid in pids)


@pytest.mark.slow
def test_a_process_that_cannot_start_leaves_the_work_to_the_parent(bench: Bench, spec, monkeypatch) -> None:
    monkeypatch.setattr(scorers, "strangers", lambda spaces: ["no_such_module"])
    wants = spec(candidates=4, workers=2)
    with side_by_side(wants, bench, SPACES) as pool:
        assert pool is not None
        while pool.pids:
            pool.finished(wait=True)
        ruler = Ruler(bench.task, LIMITS)
        assert exactly(list(search(wants, bench, ruler, SPACES, pool=pool))) == exactly(alone(wants, bench))


def test_one_process_is_this_one(bench: Bench, spec) -> None:
    for workers, candidates in ((1, 10_000), ("auto", 10)):
        with side_by_side(spec(workers=workers, candidates=candidates), bench, SPACES) as pool:
            assert pool is None


def test_where_memory_is_left_for_one_process_it_computes_as_each_of_several_would(bench, spec, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    monkeypatch.setattr(scorers, "available_bytes", lambda: 0)
    with scorers.pinned(3):
        with side_by_side(spec(workers="auto", candidates=1000), bench, SPACES) as pool:
            assert (pool, torch.get_num_threads()) == (None, 1)
        assert torch.get_num_threads() == 3


def test_auto_takes_what_cores_and_memory_allow(spec, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    monkeypatch.setattr(scorers, "available_bytes", lambda: 64 * 2**30)
    asked = spec(workers="auto", candidates=1000)
    assert crew(asked, "cpu").processes == 4
    assert crew(spec(workers=200), "cpu").processes == 4
    assert crew(spec(workers="auto", candidates=1000, sampler="gp"), "cpu").processes == 1
    monkeypatch.setattr(scorers, "available_bytes", lambda: 3 * scorers._PROCESS_BYTES)
    assert crew(asked, "cpu").processes == 3
    with pytest.raises(TooMuchMemory, match="give a smaller") as caught:
        crew(spec(workers=5), "cpu")
    assert caught.value.field == "search.workers"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_processes_are_spread_over_the_gpus(spec) -> None:
    here = torch.cuda.device_count()
    assert crew(spec(workers=2 * here), "cuda").devices == tuple(f"cuda:{i % here}" for i in range(2 * here))
    assert crew(spec(workers=2), "cuda:0").devices == ("cuda:0", "cuda:0")


def test_an_answer_that_breaks_off_is_the_end_of_its_process() -> None:
    words = 'print(\'{"ready": true}\\n{"id": "vit {}", "rea\', end="")'
    pool = object.__new__(scorers.Scorers)
    pool._heard = queue.SimpleQueue()
    with subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE) as child:
        pool._listen(process := scorers._Process(child, "cpu"))
    assert [pool._heard.get_nowait() for _ in range(2)] == [(process, {"ready": True}), (process, None)]
