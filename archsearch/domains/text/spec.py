"""What a request says of texts; needs nothing but Pydantic, so a client can build and check it anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from archsearch.plain import Spec

OnDuplicates = Literal["refuse", "warn", "drop"]
MAX_LENGTH, SHORTEST, LONGEST = 128, 8, 512


def _check_labels(value: Any) -> Any:
    named = value if isinstance(value, list | tuple) else [value, value]
    if value is not None and (len(named) < 2 or not all(isinstance(name, str) and name for name in named)):
        raise ValueError("give the name of a column, or a list of two columns or more, each with one label")
    return value


Column = Annotated[str, Field(min_length=1, max_length=200)]
LabelColumns = Annotated[tuple[Column, ...], Field(min_length=2, max_length=10_000)]
Tokens = Annotated[
    int,
    Field(
        ge=SHORTEST,
        le=LONGEST,
        description="Tokens a text may have, 8 to 512, the tokenizer's own marks included; of longer ones the end is "
        "cut off, and a warning says of how many. Costs grow with it, and no teacher reads more than it was made for.",
    ),
]


class TextData(Spec):
    """Texts with labels: a csv, tsv or jsonl file (.gz too), or a folder or zip of train, validation and test.

    Columns that are not named are found by their usual names. Texts of unlabelled.csv (.tsv, .jsonl, or .txt with one
    on every line), beside train, have no labels. Where that is all there is, or a table has no columns but the texts',
    none has: the teacher's classes are the task.
    """

    kind: Literal["text"] = "text"
    path: Path = Field(description="The file, folder or zip. Text is UTF-8; the first row of a csv or tsv has names.")
    text_column: Column | None = Field(
        None,
        description="The column that holds the text; of a pair, the first. Null finds text, sentence, review, content, "
        "comment, message, tweet or document, or both of a pair.",
    )
    pair_column: Column | None = Field(
        None,
        description="The column with the second text of a pair. Null finds sentence1 and sentence2, premise and "
        "hypothesis, question1 and question2 or the like, unless text_column is given; else every text is single.",
    )
    label_column: Annotated[Column | LabelColumns | None, BeforeValidator(_check_labels)] = Field(
        None,
        description="The column with the label, as a word or a number; several labels a text are told apart by | or ;, "
        "or are a list in jsonl. A list of columns is one label each, 1 where a text has it and else 0. Null finds "
        "label, labels, category, class, sentiment, intent, topic or target.",
    )
    split_column: Column | None = Field(
        None,
        description="The column that says train, validation (or val, dev) or test. Null finds split; without one, what "
        "is missing is held out of train, the same way every time.",
    )
    max_length: Tokens = MAX_LENGTH
    duplicates: OnDuplicates = Field(
        "refuse",
        description="What texts do that are there twice, but for blanks and capitals: `refuse` the data where over a "
        "tenth of a split is also in train or over a twentieth of all have two labels, and warn of fewer; only `warn`; "
        "or `drop`: each is left once, in test before train, and nowhere where its labels differ.",
    )
