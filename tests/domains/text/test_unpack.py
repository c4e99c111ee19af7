from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from archsearch.domains.text.stored import open_table
from archsearch.domains.text.task import TextTask
from archsearch.domains.unpack import unpack
from archsearch.errors import TooLarge


def test_an_upload_is_read_stored_and_told_of(tmp_path: Path) -> None:
    (tmp_path / "upload").write_text("words,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40)))
    told: list[object] = []
    options = {"text_column": "words", "max_length": 32}
    row = unpack(told.append, str(tmp_path / "upload"), "text", options, {}, str(tmp_path / "kept" / "set"))
    table = open_table(tmp_path / "kept" / "set")
    assert (row["sha256"], row["splits"], row["notes"]) == (table.sha256, {"train": 26, "selection": 6, "test": 8}, [])
    task = dict(row["task"])
    assert task.pop("domain") == "text_classification"
    assert TypeAdapter(TextTask).validate_python(task) == table.task
    assert (table.task.max_length, table.task.class_names, table.task.vocab_size) == (32, ("a", "b"), 0)
    assert told[-1] == 0.8


def test_nothing_is_stored_of_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "upload").write_text("text,label\n" + "a,b\n" * 99)
    with pytest.raises(TooLarge, match="more than 50 rows"):
        unpack(lambda share: None, str(tmp_path / "upload"), "text", {}, {"max_examples": 50}, str(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()
