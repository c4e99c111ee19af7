from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archsearch import domains
from archsearch.data import Dataset
from archsearch.data.shots import few_shots
from archsearch.domains.images.measured import load_measured
from archsearch.domains.text.load import load_text
from archsearch.errors import InvalidRequest
from archsearch.request import DatasetData, DigitsData
from archsearch.testing.images import two_digits


def digits(**fields: object) -> Dataset:
    found: Dataset = domains.load(DigitsData.model_validate(fields))
    return found


@pytest.mark.parametrize("shots", [1, 2, 10])
def test_every_class_keeps_as_many_labels(shots: int) -> None:
    whole, few = digits(), digits(shots=shots)
    assert np.bincount(few.train.y_N).tolist() == [shots] * 10
    assert few.unlabelled is not None
    assert few.unlabelled.y_N.tolist() == [-1] * len(few.unlabelled)
    assert few.training_examples == len(whole.train)
    assert few.task == replace(whole.task, prevalence=(0.1,) * 10)
    for name in ("selection", "test"):
        assert np.array_equal(getattr(few, name).y_N, getattr(whole, name).y_N)
    images = np.concatenate([few.train.pixels(slice(None)), few.unlabelled.pixels(slice(None))])
    assert sorted(map(bytes, images)) == sorted(map(bytes, whole.train.pixels(slice(None))))
    (note,) = few.notes
    assert f"{10 * shots} training examples keep their labels, {shots} a class" in note.detail


def test_a_draw_depends_on_its_seed_and_is_a_part_of_larger_ones() -> None:
    def drawn(**fields: object) -> set[bytes]:
        return {bytes(image) for image in digits(**fields).train.pixels(slice(None))}

    assert drawn(shots=3) == drawn(shots=3) < drawn(shots=7)
    assert drawn(shots=3) != drawn(shots=3, shots_seed=1)
    names = [digits(shots=3, **more).sha256 for more in ({}, {"shots_seed": 1}, {"rest": "drop"})]
    assert len({*names, digits().sha256}) == 4


def test_the_rest_may_be_left_out() -> None:
    few = digits(shots=5, rest="drop")
    assert (len(few.train), few.unlabelled, few.training_examples) == (50, None, 50)


def test_all_there_are_leave_none_without() -> None:
    most = int(np.bincount(digits().train.y_N).min())
    few = digits(shots=most)
    assert few.unlabelled is not None
    assert len(few.train) == 10 * most


def test_more_than_there_are_are_refused() -> None:
    with pytest.raises(
        InvalidRequest, match=r"class '8' has 113 training examples, and 114 of each .* ask for 113"
    ) as caught:
        digits(shots=114)
    assert caught.value.field == "data.shots"


def test_classes_of_many_labels_are_not_drawn_from() -> None:
    with pytest.raises(InvalidRequest, match="any number of labels"):
        few_shots(two_digits(), DigitsData(shots=2))


def test_images_without_labels_stay_beside_the_rest() -> None:
    few = digits(shots=10)
    fewer = few_shots(few, DigitsData(shots=2))
    assert fewer.unlabelled is not None
    assert few.unlabelled is not None
    assert len(fewer.unlabelled) == len(few.unlabelled) + 80


def test_texts_have_a_few_labels_or_none(tmp_path: Path) -> None:
    rows = [f"text number {i},{'good' if i % 2 else 'bad'}" for i in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    table = load_text(tmp_path / "a.csv")
    few = few_shots(table, DatasetData(id="ds_" + "0" * 20, shots=4, rest="drop"))
    assert np.bincount(few.train.y_N).tolist() == [4, 4]
    assert few.sha256 != table.sha256
    beside = few_shots(table, DatasetData(id="ds_" + "0" * 20, shots=4))
    assert beside.unlabelled is not None
    assert (len(beside.train), len(beside.unlabelled)) == (8, len(table.train) - 8)
    assert {*beside.unlabelled.y_N.tolist()} == {-1}
    both = {text for split in (beside.train, beside.unlabelled) for text in map(split.texts, range(len(split)))}
    assert both == {table.train.texts(row) for row in range(len(table.train))}
    assert len({table.sha256, few.sha256, beside.sha256}) == 3


def test_whoever_measures_knows_the_data_again() -> None:
    whole, few = digits(), digits(shots=10)
    found = load_measured(DigitsData(shots=10), few.task, learned_from=few.sha256)
    assert np.array_equal(found.dataset.test.y_N, whole.test.y_N)
    read = domains.of(few.task).as_read({"kind": "digits"}, few.task, {"kind": "digits", "shots": 10, "shots_seed": 3})
    assert read == {"kind": "digits", "shots": 10, "shots_seed": 3}
