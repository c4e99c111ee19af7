from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archsearch.domains.text.load import load_text
from archsearch.domains.text.measured import Measured, load_measured
from archsearch.domains.text.spec import TextData
from archsearch.domains.text.task import TextTask
from archsearch.domains.text.tokenise import tokenise
from archsearch.domains.text.tokenizer import TextTokenizer, load_tokenizer
from archsearch.errors import DataError, InvalidRequest
from tests.data_files import Refused
from tests.domains.text.conftest import MakeTokenizer

KNOWN = TextTask(2, 16, 50, 0, False, ("bad", "good"))
Measure = Callable[..., Measured]


@pytest.fixture
def tokenizer(make_tokenizer: MakeTokenizer) -> TextTokenizer:
    return load_tokenizer(make_tokenizer())


@pytest.fixture
def measure(tmp_path: Path, tokenizer: TextTokenizer) -> Measure:
    def write_and_load(content: str, known: TextTask = KNOWN, part: Any = "auto", **options: Any) -> Measured:
        (tmp_path / "a.csv").write_text(content)
        return load_measured(TextData(path=tmp_path / "a.csv"), known, tokenizer, part, **options)

    return write_and_load


def rows(count: int = 40, names: tuple[str, ...] = ("bad", "good"), head: str = "text,label", split: str = "") -> str:
    return "\n".join([head, *(f"{split}text number {i},{names[i % len(names)]}" for i in range(count))])


def test_the_test_split_is_measured_where_there_is_one(measure: Measure) -> None:
    found = measure(rows(4, head="split,text,label", split="test,"))
    assert (found.part, len(found.dataset.test), len(found.dataset.train), found.notes) == ("test", 4, 0, ())
    assert found.dataset.test.y_N.tolist() == [0, 1, 0, 1]
    assert found.dataset.test.examples(slice(3, 4))[0, 0].tolist() == [2, 8, 9, 13, 3]


def test_all_is_measured_of_data_nobody_knows(measure: Measure) -> None:
    found = measure(rows())
    assert (found.part, len(found.dataset.test), [note.code for note in found.notes]) == ("all", 40, ["all_measured"])
    assert "--split test takes the 8 that" in found.notes[0].detail


def test_of_data_it_learned_from_only_what_was_held_out_is_measured(
    measure: Measure, tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    (tmp_path / "a.csv").write_text(rows())
    learned = tokenise(load_text(tmp_path / "a.csv", max_length=16), tokenizer)
    found = measure(rows(), learned_from=learned.sha256)
    assert (found.part, [note.code for note in found.notes]) == ("test", ["held_out_measured"])
    assert found.dataset.sha256 == learned.sha256
    assert found.dataset.test.examples(slice(None)).equal(learned.test.examples(slice(None)))
    assert found.dataset.selection.examples(slice(None)).equal(learned.selection.examples(slice(None)))


def test_of_data_whose_copies_were_dropped_too(measure: Measure, tmp_path: Path, tokenizer: TextTokenizer) -> None:
    content = rows() + "\n" + rows(2).partition("\n")[2]
    (tmp_path / "a.csv").write_text(content)
    learned = tokenise(load_text(tmp_path / "a.csv", max_length=16, duplicates="drop"), tokenizer)
    assert measure(content, learned_from=learned.sha256).dataset.sha256 == learned.sha256


def test_labels_are_matched_by_name(measure: Measure) -> None:
    known = replace(KNOWN, classes=3, class_names=("good", "so", "bad"))
    found = measure(rows(4, head="split,text,label", split="test,"), known)
    assert found.dataset.test.y_N.tolist() == [2, 0, 2, 0]
    assert ([note.code for note in found.notes], found.dataset.task.class_names) == (
        ["classes_reordered"],
        known.class_names,
    )


def test_every_split_together(measure: Measure) -> None:
    found = measure(rows(4, head="split,text,label", split="test,") + "\ntrain,a,bad\ntrain,b,good", part="all")
    assert found.dataset.test.y_N.tolist() == [0, 1, 0, 1, 0, 1]


def test_other_classes_are_refused(measure: Measure, refused: Refused) -> None:
    with refused(InvalidRequest, "--data", "the student knows no class 'poor'"):
        measure(rows(names=("good", "poor")))
    with refused(InvalidRequest, "--data", "the student reads pairs of texts; name the columns"):
        measure(rows(), paired=True)
    with refused(InvalidRequest, "--data", "the data has no selection split, and none can be held out"):
        measure(rows(4, head="split,text,label", split="test,"), part="selection")
    with refused(DataError, "a.csv", "line 2: text is empty"):
        measure("text,label\n,good")
