"""What every registered proxy promises, on a healthy student of every registered space, with one label or many."""

from __future__ import annotations

import math
import statistics
from collections.abc import Set
from contextlib import suppress

import pytest
import torch

from archsearch.evidence import Evidence, Read
from archsearch.proxies import Proxy, Undefined, proxies
from archsearch.spaces import spaces

# Zen-Score is defined by batch norms, which these families do not have.
UNDEFINED = {("zen", space): "no batch norm" for space in ("autoformer", "convnext", "pit", "vit")}

# Many labels change the losses and nothing of the networks, so one with batch norm and one without it tell.
PAIRS = (*spaces.names(), "resnet_cifar, many labels", "vit, many labels")

# Random signs, or labels, are laid over the batch: another order gives other numbers of the same distribution.
DRAWN: Set[Read] = {"gains", "spectral_gains", "fisher_information"}

# In float32, sums come out differently in another order. Progressivity is a small difference of entropies near 3.
ROUNDING = {"progressivity": 1e-5}

# What no autograd is needed for.
NOT_DIFFERENTIATED: Set[Read] = {"relations", "head", "codes", "patterns", "spectra", "zen"}

# Asks of data and teacher only whether any gradient arrives, which another teacher does not change.
ASKS_WHETHER = {"capacity"}

# As timm initialises them, these small ones are so nearly linear that this is clipped whatever changes.
AT_ITS_WORST = {("gradient_rank", "pit"), ("gradient_rank", "vit")}


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Proxy:
    return proxies.get(request.param)


every_proxy = pytest.mark.parametrize("proxy", proxies.names(), indirect=True)
every_pair = pytest.mark.parametrize("pair", PAIRS, indirect=True)


def defined(pair) -> list[Proxy]:
    """The proxies that have a value for the pair's space."""
    return [proxy for proxy in proxies if (proxy.name, pair.space.name) not in UNDEFINED]


def value(proxy: Proxy, evidence: Evidence) -> float:
    return float(proxy.measure(evidence))


@every_proxy
def test_it_is_documented(proxy: Proxy) -> None:
    assert len(proxy.doc) > 10
    assert proxy.doc[0].isupper() or not proxy.doc[0].isalpha() or proxy.doc.startswith(("log", "exp"))
    assert proxy.source
    assert proxy.needs <= {"data", "labels", "gradients", "teacher"}


@every_proxy
def test_it_needs_gradients_where_it_reads_what_is_differentiated(proxy: Proxy) -> None:
    assert ("gradients" in proxy.needs) == bool(proxy.reads - NOT_DIFFERENTIATED)


@pytest.mark.parametrize(
    ("proxy", "pair", "reason"), [(*c, why) for c, why in UNDEFINED.items()], indirect=["proxy", "pair"]
)
def test_where_it_is_undefined_it_says_why(proxy: Proxy, pair, reason: str) -> None:
    with pytest.raises(Undefined, match=reason):
        proxy.measure(pair.evidence())


@every_pair
def test_it_is_finite_and_votes(pair, subtests: pytest.Subtests) -> None:
    for proxy in defined(pair):
        with subtests.test(proxy=proxy.name):
            found = proxy.measure(pair.evidence())
            assert isinstance(found, float) or (isinstance(found, torch.Tensor) and found.ndim == 0)
            assert math.isfinite(found)
            assert math.isfinite(proxy.nats(float(found)))


@every_pair
def test_the_same_seed_gives_the_same_number(pair, subtests: pytest.Subtests) -> None:
    for proxy in defined(pair):
        with subtests.test(proxy=proxy.name):
            assert value(proxy, pair.again) == value(proxy, pair.evidence())


@every_pair
def test_another_seed_moves_what_looks_at_more_than_shapes(pair, subtests: pytest.Subtests) -> None:
    for proxy in defined(pair):
        with subtests.test(proxy=proxy.name):
            moved = value(proxy, pair.evidence(5)) != value(proxy, pair.evidence())
            assert (
                moved == bool(proxy.reads)
                or proxy.name in ASKS_WHETHER
                or (proxy.name, pair.space.name) in AT_ITS_WORST
            )


@every_pair
def test_measuring_changes_no_evidence(pair, subtests: pytest.Subtests) -> None:
    evidence = pair.fresh_evidence()
    first = {proxy.name: value(proxy, evidence) for proxy in defined(pair)}
    for other in reversed(list(proxies)):
        with suppress(Undefined):
            other.measure(evidence)
    for proxy in defined(pair):
        with subtests.test(proxy=proxy.name):
            assert value(proxy, evidence) == first[proxy.name] == value(proxy, pair.evidence())


@every_pair
def test_the_order_of_the_batch_is_irrelevant(pair, subtests: pytest.Subtests) -> None:
    for proxy in defined(pair):
        with subtests.test(proxy=proxy.name):
            if drawn := proxy.reads & DRAWN:
                # The two means may differ by what chance explains: four standard errors.
                there, here = ([value(proxy, e) for e in p.redrawn(frozenset(drawn))] for p in (pair, pair.shuffled))
                error = math.sqrt((statistics.variance(there) + statistics.variance(here)) / len(there))
                assert statistics.mean(here) == pytest.approx(statistics.mean(there), abs=4 * error)
            else:
                rounding = ROUNDING.get(proxy.name, 1e-6)
                expected = pytest.approx(value(proxy, pair.evidence()), rel=2e-3, abs=rounding)
                assert value(proxy, pair.shuffled_evidence) == expected


@every_pair
def test_it_says_what_it_needs(pair, subtests: pytest.Subtests) -> None:
    for proxy in defined(pair):
        with subtests.test(proxy=proxy.name):
            found = value(proxy, pair.evidence())
            moved = {need for need, evidence in pair.changed.items() if value(proxy, evidence) != found}
            if proxy.name in ASKS_WHETHER or (proxy.name, pair.space.name) in AT_ITS_WORST:
                assert moved <= proxy.needs
            else:
                assert moved == proxy.needs - {"gradients"}


@every_pair
def test_without_autograd_only_what_needs_no_gradients_is_measured(pair, subtests: pytest.Subtests) -> None:
    for proxy in defined(pair):
        with subtests.test(proxy=proxy.name):
            teacher = pair.teacher_evidence
            with torch.inference_mode():
                if "gradients" in proxy.needs:
                    with pytest.raises(RuntimeError, match="grad"):
                        pair.fresh_evidence(reads=proxy.reads)
                else:
                    assert math.isfinite(value(proxy, pair.fresh_evidence(reads=proxy.reads)))
            assert pair.teacher_evidence is teacher


@every_pair
def test_what_it_says_it_reads_is_all_it_looks_at(pair, subtests: pytest.Subtests) -> None:
    """What is read less is `NotMeasured`. Random numbers are drawn in another sequence when less is measured."""
    for proxy in defined(pair):
        with subtests.test(proxy=proxy.name):
            found = value(proxy, pair.observed(proxy.reads).evidence)
            assert math.isfinite(found)
            if not proxy.reads & {*DRAWN, "zen"}:
                assert found == pytest.approx(value(proxy, pair.evidence()), rel=1e-3, abs=1e-6)


@every_pair
def test_the_network_is_left_as_a_forward_pass_leaves_it(pair, subtests: pytest.Subtests) -> None:
    """Weights stay; batch norm has seen the batch once, whatever other passes were made; no hook stays."""
    for proxy in defined(pair):
        with subtests.test(proxy=proxy.name):
            seen, plain = pair.observed(proxy.reads), pair.student().train()
            plain(pair.x_BCHW)
            weights = {name for name, _ in seen.student.named_parameters()}
            for name, after in seen.student.state_dict().items():
                if name in weights:
                    assert after.equal(seen.before[name]), name
                else:
                    torch.testing.assert_close(after, plain.state_dict()[name], msg=name)
            for module in seen.student.modules():
                assert module.training
                assert not module._forward_hooks
                assert not module._forward_pre_hooks
            assert all(
                p.grad is None and p.requires_grad and p.dtype == torch.float32 for p in seen.student.parameters()
            )
