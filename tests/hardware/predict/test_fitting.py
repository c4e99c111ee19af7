from __future__ import annotations

import numpy as np
import pytest

from archsearch.domains.images.task import ImageTask
from archsearch.errors import InvalidRequest
from archsearch.hardware.predict import fit
from archsearch.spaces import Count, Space, spaces
from tests.hardware.predict.arithmetic import counts, device_ms


@pytest.mark.parametrize("name", ["resnet_cifar", "vit", "nasbench201"])
def test_a_device_that_is_a_sum_is_recovered(name: str, task: ImageTask) -> None:
    space = spaces.get(name)
    known, others = counts(space, task, 0), counts(space, task, 1, 60)
    found = fit(known, [device_ms(count) for count in known])
    errors = [found.predict(count) / device_ms(count) - 1 for count in others]
    assert np.abs(errors).mean() < 0.02
    assert found.error < 0.03


def test_noise_is_not_learned(space: Space, task: ImageTask) -> None:
    known, others = counts(space, task, 0), counts(space, task, 1, 60)
    noise = np.random.default_rng(0).normal(0, 0.05, len(known))
    found = fit(known, [device_ms(count) * float(np.exp(e)) for count, e in zip(known, noise, strict=True)])
    errors = [found.predict(count) / device_ms(count) - 1 for count in others]
    assert np.abs(errors).mean() < 0.05
    assert 0.02 < found.error < 0.15


def test_prices_that_fit_are_not_negative(space: Space, task: ImageTask) -> None:
    known = counts(space, task, 0)
    found = fit(known, [device_ms(count) for count in known])
    assert found.reading == "prices"
    assert found.constant >= 0
    assert min(found.prices) >= 0


def test_what_no_price_above_zero_fits_is_fitted_all_the_same(task: ImageTask) -> None:
    # A pooling that costs what a convolution writing as much does not.
    space = spaces.get("nasbench201")

    def pooled_ms(count: Count) -> float:
        return 1.0 + count.moved / 1e5 - 0.05 * sum(count.layers)

    known, others = counts(space, task, 0), counts(space, task, 1, 60)
    found = fit(known, [pooled_ms(count) for count in known])
    assert found.reading.startswith("signed")
    assert np.abs([found.predict(count) / pooled_ms(count) - 1 for count in others]).mean() < 0.03


@pytest.mark.parametrize("latencies", [[1.0] * 19, [1.0] * 19 + [0.0], [1.0] * 19 + [float("nan")]])
def test_latencies_that_are_none_are_refused(latencies: list[float], space: Space, task: ImageTask) -> None:
    with pytest.raises(InvalidRequest):
        fit(counts(space, task, 0), latencies)


def test_too_few_members_are_refused(space: Space, task: ImageTask) -> None:
    with pytest.raises(InvalidRequest, match="at least 5"):
        fit(counts(space, task, 0)[:4], [1.0, 2.0, 3.0, 4.0])


def test_members_that_do_not_differ_have_their_mean() -> None:
    found = fit([Count(params=5, macs=7)] * 8, [1.0] * 4 + [1.1] * 4)
    assert found.features == ()
    assert 1.0 < found.predict(Count(params=9)) < 1.1
