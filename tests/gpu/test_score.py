"""Evidence, proxies and scores: a device has the processor's numbers."""

from __future__ import annotations

import pytest
import torch

from archsearch.data import Dataset
from archsearch.device import kind
from archsearch.evidence import observe_student
from archsearch.hardware import Limits, Ruler
from archsearch.proxies import Undefined, proxies
from archsearch.request import SearchSpec
from archsearch.search import bench, prepare
from archsearch.spaces import spaces
from archsearch.teachers import Teacher
from archsearch.testing.pairs import pair_of

# Random signs and labels, which each device draws in its own way.
DRAWN = {"gains", "spectral_gains", "fisher_information", "zen"}


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", ["resnet_cifar", "vit", "vit, many labels"])
def test_every_proxy_agrees_with_the_processors(name: str, device: str, subtests: pytest.Subtests) -> None:
    pair = pair_of(name)
    x_BCHW, y_B, teacher = pair.x_BCHW.to(device), pair.y_B.to(device), pair.teacher_evidence.to(device)
    for proxy in proxies:
        with subtests.test(proxy=proxy.name):
            try:
                expected = float(proxy.measure(pair.observed(proxy.reads).evidence))
            except Undefined:
                continue
            found = float(
                proxy.measure(observe_student(pair.student().to(device), x_BCHW, y_B, teacher, proxy.reads, "fp32"))
            )
            loose = proxy.reads & DRAWN
            assert found == pytest.approx(expected, rel=0.5 if loose else 2e-2, abs=0.5 if loose else 1e-3)


@pytest.mark.usefixtures("exact")
def test_a_candidate_has_nearly_the_processors_score(taught: Teacher, few_digits: Dataset, device: str) -> None:
    spec, space = SearchSpec(precision="fp32"), spaces.get("resnet_cifar")
    ruler, member = Ruler(few_digits.task, Limits(), "fp32", 1), space.smallest(few_digits.task)
    here, there = (
        bench.evaluate(spec, space, prepare(spec, taught, few_digits, device=at), member, ruler)
        for at in ("cpu", device)
    )
    assert (here.state, there.state) == ("scored", "scored"), there.reason
    assert there.score == pytest.approx(here.score, abs=0.1)
    assert next(taught.model.parameters()).device == torch.zeros(0, device=device).device, "it is where it was"


def test_what_does_not_fit_fails_alone_and_lets_go(
    taught: Teacher, few_digits: Dataset, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind(device) == "cpu":
        pytest.skip("a processor's memory ends with the process")
    monkeypatch.setattr(bench, "_beyond_memory", lambda *_, **__: None)
    spec, space, task = SearchSpec(precision="fp32", batch_size=128), spaces.get("resnet_cifar"), few_digits.task
    made, ruler = prepare(spec, taught, few_digits, device=device), Ruler(task, Limits(), "fp32", 1)
    fine = bench.evaluate(spec, space, made, space.smallest(task), ruler)
    torch.cuda.empty_cache()
    before, total = torch.cuda.memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + 2**24) / total, device)
    try:
        failed = bench.evaluate(spec, space, made, space.largest(task), ruler)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert (failed.state, failed.reason) == ("failed", "out of memory")
    assert torch.cuda.memory_allocated(device) == before
    assert bench.evaluate(spec, space, made, space.smallest(task), ruler).score == pytest.approx(fine.score, abs=1e-3)
