"""What the costs of networks of texts depend on, as people give it and as profiles keep it."""

from __future__ import annotations

from pydantic import Field

from archsearch.domains.text.spec import LONGEST, MAX_LENGTH, SHORTEST
from archsearch.domains.text.task import TextTask
from archsearch.plain import Spec

# BERT's own.
_VOCABULARY = 30_522


class TextSizes(Spec):
    """Of texts as flags and queries name them."""

    max_length: int = Field(MAX_LENGTH, ge=SHORTEST, le=LONGEST, description="Tokens of the longest text.")
    vocab_size: int = Field(
        _VOCABULARY, ge=2, le=10_000_000, description="Tokens the teacher's tokenizer knows; 30522 are BERT's."
    )

    def task(self, classes: int) -> TextTask:
        """Of as many classes, of single texts."""
        return TextTask(classes, self.max_length, self.vocab_size, 0, pair=False)


class TextShape(TextSizes):
    """Of the texts a profile was measured on."""

    max_length: int = Field(ge=1, le=1_000_000)
    vocab_size: int = Field(ge=1, le=10_000_000)
