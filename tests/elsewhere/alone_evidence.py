"""Evidence and the score on a device that is not there: what they wait for."""

from __future__ import annotations

import pytest
import torch

from archsearch.evidence import observe_student
from archsearch.proxies import Undefined, proxies
from archsearch.proxies.score import reads, score
from archsearch.testing.pairs import pair_of
from tests.elsewhere.device import NAME, Elsewhere, register

register()
PAIRS = ["resnet_cifar", "vit", "resnet_cifar, many labels", "vit, many labels"]


@pytest.mark.parametrize("name", PAIRS)
def test_a_score_waits_once_for_all_its_proxies(name: str) -> None:
    pair = pair_of(name)
    with Elsewhere() as there:
        student, teacher = pair.student().to(NAME), pair.teacher_evidence.to(NAME)
        x_BCHW, y_B = pair.x_BCHW.to(NAME), pair.y_B.to(NAME)
        there.waits.clear()
        evidence = observe_student(student, x_BCHW, y_B, teacher, reads())
        assert there.waits == []
        found = score(evidence)
    assert there.waits == ["_to_copy"], "the numbers of all proxies come together"
    torch.manual_seed(0)
    here = score(observe_student(pair.student(), pair.x_BCHW, pair.y_B, pair.teacher_evidence, reads()))
    assert found.value == pytest.approx(here.value, abs=0.2)


@pytest.mark.parametrize("name", PAIRS)
def test_every_proxy_has_the_processors_value_and_mixes_no_devices(name: str) -> None:
    pair = pair_of(name)
    for proxy in proxies:
        if proxy.reads & {"synflow", "gains", "spectral_gains", "zen", "fisher_information"}:
            continue  # random numbers, or a network that changes its type, which this device does not follow
        expected = proxy.measure(pair.observed(proxy.reads).evidence)
        with Elsewhere():
            student, teacher = pair.student().to(NAME), pair.teacher_evidence.to(NAME)
            x_BCHW, y_B = pair.x_BCHW.to(NAME), pair.y_B.to(NAME)
            try:
                found = float(proxy.measure(observe_student(student, x_BCHW, y_B, teacher, proxy.reads)))
            except Undefined:
                continue
        assert found == pytest.approx(float(expected), rel=1e-2, abs=1e-4), proxy.name
