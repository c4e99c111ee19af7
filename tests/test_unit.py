from __future__ import annotations

from archsearch.unit import unit_of, written


def test_figures_are_written_with_their_unit() -> None:
    assert [written(91.304), written(0.4123, "nats"), written(0.87341, "")] == ["91.30 %", "0.412 nats", "0.873"]


def test_what_does_not_tell_its_unit_is_of_before_there_were_others() -> None:
    assert unit_of({}) == "%"
    assert unit_of({"judged_by": {"key": "nll", "name": "loss", "unit": "nats", "better": "lower"}}) == "nats"
