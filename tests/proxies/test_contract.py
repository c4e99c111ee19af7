"""What every registered proxy promises, on a healthy student of every registered space."""

from __future__ import annotations

import math

import pytest

from archsearch.proxies import Proxy, proxies


@pytest.fixture(params=proxies.names())
def proxy(request: pytest.FixtureRequest) -> Proxy:
    return proxies.get(request.param)


def test_it_is_documented(proxy: Proxy) -> None:
    assert proxy.doc.endswith(".") or len(proxy.doc) > 10
    assert proxy.source
    assert proxy.needs <= {"data", "labels", "gradients", "teacher"}


def test_it_is_finite_and_votes(proxy: Proxy, pair) -> None:
    value = proxy.measure(pair.evidence())
    assert isinstance(value, float)
    assert math.isfinite(value)
    assert math.isfinite(proxy.nats(value))


def test_the_same_seed_gives_the_same_number(proxy: Proxy, pair) -> None:
    assert proxy.measure(pair.fresh_evidence()) == proxy.measure(pair.evidence())


def test_measuring_changes_no_evidence(proxy: Proxy, pair) -> None:
    evidence = pair.evidence()
    first = proxy.measure(evidence)
    for other in proxies:
        other.measure(evidence)
    assert proxy.measure(evidence) == first


def test_the_order_of_the_batch_is_irrelevant(proxy: Proxy, pair) -> None:
    assert proxy.measure(pair.shuffled) == pytest.approx(proxy.measure(pair.evidence()), rel=1e-3, abs=1e-6)


def test_it_says_what_it_needs(proxy: Proxy, pair) -> None:
    value = proxy.measure(pair.evidence())
    moved = {need for need, evidence in pair.changed.items() if proxy.measure(evidence) != value}
    assert moved == proxy.needs
