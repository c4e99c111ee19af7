from __future__ import annotations

import pytest

from archsearch.settings import Settings


@pytest.mark.parametrize("name", ["ARCHSEARCH_MAX_EXAMPLES", "ARCHSEARCH_MAX_IMAGES"])
def test_the_most_examples_are_set_by_their_name_and_by_that_of_before(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "7")
    assert Settings().max_examples == 7
    assert Settings(max_examples=8).max_examples == 8
