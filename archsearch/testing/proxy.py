"""What every proxy promises, on healthy students of several families, with one label or many."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from archsearch.evidence import Evidence, Read
from archsearch.proxies import Proxy, Undefined
from archsearch.testing.pairs import Pair, pair_of

# Random signs, or labels, are laid over the batch: another order gives other numbers of the same distribution.
DRAWN: Set[Read] = {"gains", "spectral_gains", "fisher_information"}

# What no autograd is needed for.
NOT_DIFFERENTIATED: Set[Read] = {"relations", "head", "codes", "patterns", "spectra", "zen"}


class ProxyContract:
    """Subclass it as `Test…` and name the proxies.

    Attributes:
        proxies: Whom the tests are for.
        students: Spaces whose students are measured; ", many labels" after one takes pairs of digits. Many labels
            change the losses and nothing of the networks, so one with batch norm and one without it tell.
        undefined: For a proxy and a space it has no value for, what the reason says.
        once: Those that look at a number before they go on, as whether there is any signal; all others leave that to
            whoever adds up the scores, so that a GPU is waited for once a candidate.
        unmoved: A proxy and a space where it may stay the same whatever changes: it asks only whether, or is clipped.
        rounding: Absolute difference another order of the batch may make to a proxy; 1e-6 where nothing is said.
    """

    proxies: ClassVar[Iterable[Proxy]] = ()
    students: ClassVar[Iterable[str]] = ("resnet_cifar", "vit", "resnet_cifar, many labels", "vit, many labels")
    once: ClassVar[Collection[str]] = ()
    undefined: ClassVar[Mapping[tuple[str, str], str]] = {}
    unmoved: ClassVar[Collection[tuple[str, str]]] = ()
    rounding: ClassVar[Mapping[str, float]] = {}

    def _pairs(self) -> list[Pair]:
        return [pair_of(name) for name in self.students]

    def _defined(self, pair: Pair) -> list[Proxy]:
        """The proxies that have a value for the pair's space."""
        return [proxy for proxy in self.proxies if (proxy.name, pair.space.name) not in self.undefined]

    def _all(self) -> Iterator[tuple[Proxy, Pair]]:
        return ((proxy, pair) for pair in self._pairs() for proxy in self._defined(pair))

    def _stays(self, proxy: Proxy, pair: Pair) -> bool:
        return (proxy.name, pair.space.name) in self.unmoved

    def test_it_is_documented(self, subtests: pytest.Subtests) -> None:
        assert list(self.proxies), "`proxies` names those to test"
        for proxy in self.proxies:
            with subtests.test(proxy=proxy.name):
                assert len(proxy.doc) > 10
                assert proxy.doc[0].isupper() or not proxy.doc[0].isalpha() or proxy.doc.startswith(("log", "exp"))
                assert proxy.source
                assert proxy.needs <= {"data", "labels", "gradients", "teacher"}

    def test_it_needs_gradients_where_it_reads_what_is_differentiated(self, subtests: pytest.Subtests) -> None:
        for proxy in self.proxies:
            with subtests.test(proxy=proxy.name):
                assert ("gradients" in proxy.needs) == bool(proxy.reads - NOT_DIFFERENTIATED)

    def test_where_it_is_undefined_it_says_why(self, subtests: pytest.Subtests) -> None:
        for pair in self._pairs():
            for proxy in self.proxies:
                if reason := self.undefined.get((proxy.name, pair.space.name)):
                    with subtests.test(proxy=proxy.name, student=pair.name), pytest.raises(Undefined, match=reason):
                        proxy.measure(pair.evidence())

    def test_it_is_finite_and_votes(self, subtests: pytest.Subtests) -> None:
        for proxy, pair in self._all():
            with subtests.test(proxy=proxy.name, student=pair.name):
                found = proxy.measure(pair.evidence())
                assert isinstance(found, float) or (isinstance(found, torch.Tensor) and found.ndim == 0)
                assert math.isfinite(found)
                assert math.isfinite(proxy.nats(float(found)))

    def test_no_number_is_waited_for(self, subtests: pytest.Subtests) -> None:
        """Of tensors without values, on a GPU that need not be there, nobody can look at one."""
        for proxy, pair in self._all():
            if proxy.name not in self.once:
                with subtests.test(proxy=proxy.name, student=pair.name):
                    found = without_values(pair.evidence(), proxy.measure)
                    assert not isinstance(found, torch.Tensor) or found.device.type == "cuda"

    def test_the_same_seed_gives_the_same_number(self, subtests: pytest.Subtests) -> None:
        for proxy, pair in self._all():
            with subtests.test(proxy=proxy.name, student=pair.name):
                assert _value(proxy, pair.again) == _value(proxy, pair.evidence())

    def test_another_seed_moves_what_looks_at_more_than_shapes(self, subtests: pytest.Subtests) -> None:
        for proxy, pair in self._all():
            with subtests.test(proxy=proxy.name, student=pair.name):
                moved = _value(proxy, pair.evidence(5)) != _value(proxy, pair.evidence())
                assert moved == bool(proxy.reads) or self._stays(proxy, pair)

    def test_measuring_changes_no_evidence(self, subtests: pytest.Subtests) -> None:
        for pair in self._pairs():
            evidence = pair.fresh_evidence()
            first = {proxy.name: _value(proxy, evidence) for proxy in self._defined(pair)}
            for other in reversed(list(self.proxies)):
                with suppress(Undefined):
                    other.measure(evidence)
            for proxy in self._defined(pair):
                with subtests.test(proxy=proxy.name, student=pair.name):
                    assert _value(proxy, evidence) == first[proxy.name] == _value(proxy, pair.evidence())

    def test_the_order_of_the_batch_is_irrelevant(self, subtests: pytest.Subtests) -> None:
        drawn = frozenset[Read]().union(*(proxy.reads & DRAWN for proxy in self.proxies))
        for proxy, pair in self._all():
            with subtests.test(proxy=proxy.name, student=pair.name):
                if proxy.reads & DRAWN:
                    # The two means may differ by what chance explains: four standard errors.
                    there, here = (_values(proxy, p.redrawn(drawn)) for p in (pair, pair.shuffled))
                    error = math.sqrt((statistics.variance(there) + statistics.variance(here)) / len(there))
                    assert statistics.mean(here) == pytest.approx(statistics.mean(there), abs=4 * error)
                else:
                    rounding = self.rounding.get(proxy.name, 1e-6)
                    expected = pytest.approx(_value(proxy, pair.evidence()), rel=2e-3, abs=rounding)
                    assert _value(proxy, pair.shuffled_evidence) == expected

    def test_it_says_what_it_needs(self, subtests: pytest.Subtests) -> None:
        for proxy, pair in self._all():
            with subtests.test(proxy=proxy.name, student=pair.name):
                found = _value(proxy, pair.evidence())
                moved = {need for need, evidence in pair.changed.items() if _value(proxy, evidence) != found}
                assert moved <= proxy.needs
                assert moved == proxy.needs - {"gradients"} or self._stays(proxy, pair)

    def test_without_autograd_only_what_needs_no_gradients_is_measured(self, subtests: pytest.Subtests) -> None:
        for proxy, pair in self._all():
            with subtests.test(proxy=proxy.name, student=pair.name):
                evidence = pair.without_autograd(proxy.reads)
                if "gradients" in proxy.needs:
                    assert isinstance(evidence, str)
                    assert "grad" in evidence
                else:
                    assert isinstance(evidence, Evidence), evidence
                    with torch.inference_mode():
                        assert math.isfinite(_value(proxy, evidence))

    def test_what_it_says_it_reads_is_all_it_looks_at(self, subtests: pytest.Subtests) -> None:
        """What is read less is `NotMeasured`. Random numbers are drawn in another sequence when less is measured."""
        for proxy, pair in self._all():
            with subtests.test(proxy=proxy.name, student=pair.name):
                found = _value(proxy, pair.observed(proxy.reads).evidence)
                assert math.isfinite(found)
                if not proxy.reads & {*DRAWN, "zen"}:
                    assert found == pytest.approx(_value(proxy, pair.evidence()), rel=1e-3, abs=1e-6)

    def test_the_network_is_left_as_a_forward_pass_leaves_it(self, subtests: pytest.Subtests) -> None:
        """Weights stay; batch norm has seen the batch once, whatever other passes were made; no hook stays."""
        for pair in self._pairs():
            for reads in {proxy.reads for proxy in self._defined(pair)}:
                with subtests.test(reads=sorted(reads), student=pair.name):
                    _left_alone(pair, reads)


def _value(proxy: Proxy, evidence: Evidence) -> float:
    return float(proxy.measure(evidence))


def without_values(evidence: Evidence, measure: Callable[[Evidence], Any]) -> Any:
    """What a proxy makes of evidence whose tensors are on a GPU and have shapes alone; raises where it needs more."""
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        FakeTensor,
        FakeTensorMode,
    )

    mode = FakeTensorMode()

    def shown(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return FakeTensor(mode, value.detach().to("meta"), torch.device("cuda"))
        if isinstance(value, tuple):
            return tuple(map(shown, value))
        if isinstance(value, Mapping):
            return {name: shown(each) for name, each in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{each.name: shown(getattr(value, each.name)) for each in fields(value)})
        return value

    seen = shown(evidence)
    try:
        with mode:
            return measure(seen)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        pytest.fail(
            f"it looks at numbers of the evidence ({error}), for which a GPU has to be waited for: return a tensor, "
            "without item(), float() or if; its number is asked for with those of all proxies. Or name it in `once`"
        )


def _values(proxy: Proxy, evidence: Iterable[Evidence]) -> list[float]:
    return [_value(proxy, each) for each in evidence]


def _left_alone(pair: Pair, reads: frozenset[Read]) -> None:
    seen, plain = pair.observed(reads), pair.after_a_forward_pass
    weights = dict(seen.student.named_parameters())
    for name, after in seen.student.state_dict().items():
        if name in weights:
            assert after.equal(seen.before[name]), name
        else:
            torch.testing.assert_close(after, plain[name], msg=name)
    for module in seen.student.modules():
        assert module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert all(p.grad is None and p.requires_grad and p.dtype == torch.float32 for p in weights.values())
