"""What a few labels make: the table of it, and one small run of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.few_labels import ARMS, Run, gains, learn, rows, taught


def run(arm: str, draw: int, acc: float) -> Run:
    return Run("digits", 10, arm, draw, 100, 1169, 720, acc, 1.0)


def test_gains_are_over_what_has_labels_alone() -> None:
    runs = [run(arm, draw, 80.0 + 5 * place + draw) for place, arm in enumerate(ARMS) for draw in range(2)]
    found = rows(runs)
    assert [(row["mean"], row["draws"]) for row in found] == [(80.5, 2), (85.5, 2), (90.5, 2)]
    assert found[0]["sd"] == pytest.approx(2**-0.5)
    (gain,) = gains(found)
    assert gain == {"data": "digits", "shots": 10, "over labels alone": 10.0, "over teacher, labelled images": 5.0}


@pytest.mark.slow
def test_images_without_labels_are_worth_something_at_two_labels_a_class(tmp_path: Path) -> None:
    """With as many steps of as many images."""
    from archsearch.domains.images import load_digits

    teacher = taught({"kind": "digits"}, tmp_path / "teacher", "none", epochs=4)
    few = {arm: learn("digits", load_digits(), teacher, "none", 2, arm, 0, 72) for arm in [*ARMS][1:]}
    assert [one.steps for one in few.values()] == [72, 72]
    assert few["teacher, all images"].test_acc > few["teacher, labelled images"].test_acc + 5
