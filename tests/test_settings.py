from __future__ import annotations

import pytest

from archsearch.arrival import limits_of
from archsearch.data.limits import NO_LIMIT, Limits
from archsearch.settings import Settings


@pytest.mark.parametrize("name", ["ARCHSEARCH_MAX_EXAMPLES", "ARCHSEARCH_MAX_IMAGES"])
def test_the_most_examples_are_set_by_their_name_and_by_that_of_before(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "7")
    assert Settings().max_examples == 7
    assert Settings(max_examples=8).max_examples == 8


def test_only_a_service_bounds_how_much_data_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library refused ImageNet; what no honest file exceeds is bounded for everybody."""
    monkeypatch.setenv("ARCHSEARCH_MAX_SIDE", "64")
    of_service, own = limits_of(Settings()), Limits()
    grow = ("max_bytes", "max_examples", "max_classes", "max_side", "max_members")
    assert all(getattr(own, name) == NO_LIMIT > getattr(of_service, name) for name in grow)
    assert (of_service.max_bytes, of_service.max_examples, of_service.max_side) == (8 * 2**30, 10**6, 64)
    honest = ("max_file_bytes", "max_pixels", "max_ratio", "max_row_bytes")
    assert all(getattr(own, name) == getattr(of_service, name) < NO_LIMIT for name in honest)
