from __future__ import annotations

import pytest
from pydantic import ValidationError

from archsearch.domains.text.spec import TextData


def test_a_path_is_enough() -> None:
    data = TextData.model_validate({"path": "sst2.csv"})
    assert (data.kind, data.max_length, data.duplicates) == ("text", 128, "refuse")
    assert data.text_column is data.pair_column is data.label_column is data.split_column is None


def test_labels_are_in_one_column_or_in_two_and_more() -> None:
    one, more = (
        TextData.model_validate({"path": "x.csv", "label_column": column}) for column in ("label", ["toxic", "rude"])
    )
    assert (one.label_column, more.label_column) == ("label", ("toxic", "rude"))
    assert TextData.model_validate_json(more.model_dump_json()) == more


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_length", 7), ("max_length", 513), ("label_column", ["toxic"]), ("text_column", ""), ("duplicates", "keep")],
)
def test_what_makes_no_sense_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        TextData.model_validate({"path": "x.csv", field: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


def test_an_unknown_field_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match="did you mean 'text_column'"):
        TextData.model_validate({"path": "x.csv", "text_colum": "a"})


def test_every_field_is_described() -> None:
    fields = TextData.model_json_schema()["properties"]
    assert [name for name in fields if name != "kind" and not fields[name].get("description")] == []
