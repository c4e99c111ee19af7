"""Encoders as the transformers library builds them: BERT, and students of an encoder's own kind.

The student is stock (`AutoModelForSequenceClassification`), so the library alone loads it. It keeps its teacher's
tokenizer, and attention heads of one size make its width, as in BERT's own miniatures (Turc et al. 2019).
"""

# T tokens of the longest example, D features

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from archsearch.domains.text.task import TextTask
from archsearch.request import Architecture
from archsearch.spaces.count import Count, attention, embedding, layer_norm, linear, total
from archsearch.spaces.kin import Kin
from archsearch.spaces.space import Parameter, Recipe, Space, spaces
from archsearch.zoos.encoders import FAMILIES, Family

if TYPE_CHECKING:
    from torch import nn

DOMAIN, ZOO = "text_classification", "transformers"
HEAD_DIM, POSITIONS, SEGMENTS = 64, 512, 2
DEEPEST, MOST_HEADS, WIDEST_RATIO = 12, 12, 4
# Widths of a teacher's own kind change by so much at least, if its sizes allow it: devices like whole blocks.
_WIDTH_STEP, _LEAST_VALUES = 64, 4


@dataclass(frozen=True)
class Net:
    """An encoder with a classifier in numbers.

    Attributes:
        hidden: Features of a token, D.
        ffn: Width of a layer's feed-forward.
        embedded: Features of an embedding; where there are fewer or more than D a projection follows.
        vocabulary, positions, segments: Rows of the tables that embeddings are looked up in.
    """

    layers: int
    heads: int
    hidden: int
    ffn: int
    embedded: int
    vocabulary: int
    positions: int
    segments: int


def parameters(task: TextTask) -> tuple[Parameter, ...]:
    return (
        Parameter("layers", 1, DEEPEST, 1, "transformer layers"),
        Parameter(
            "heads", 1, MOST_HEADS, 1, f"attention heads of {HEAD_DIM} features; the width is {HEAD_DIM} × heads"
        ),
        Parameter("ffn_ratio", 1, WIDEST_RATIO, 1, "width of the feed-forward over the width"),
    )


def net(architecture: Architecture, task: TextTask) -> Net:
    width = HEAD_DIM * architecture["heads"]
    return Net(
        layers=architecture["layers"],
        heads=architecture["heads"],
        hidden=width,
        ffn=width * architecture["ffn_ratio"],
        embedded=width,
        vocabulary=task.vocab_size,
        positions=POSITIONS,
        segments=SEGMENTS,
    )


def model(architecture: Architecture, task: TextTask) -> Recipe:
    rest = {
        "vocab_size": task.vocab_size,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": SEGMENTS,
        "pad_token_id": task.pad_id,
    }
    return _recipe(FAMILIES["bert"], net(architecture, task), rest)


def refuses(task: TextTask) -> str | None:
    """There are positions for so many tokens and no more."""
    return f"texts of {task.max_length} tokens, of which it takes {POSITIONS}" if task.max_length > POSITIONS else None


def count(architecture: Architecture, task: TextTask) -> Count:
    return count_net(net(architecture, task), task)


def count_net(here: Net, task: TextTask) -> Count:
    tokens, width, ffn = task.max_length, here.hidden, here.ffn
    tables = [
        embedding(rows, here.embedded, tokens) for rows in (here.vocabulary, here.positions, here.segments) if rows
    ]
    projected = [] if here.embedded == width else [linear(here.embedded, width, tokens)]
    norm = layer_norm(width, tokens)
    attend = [*(linear(width, width, tokens),) * 3, attention(width, tokens), linear(width, width, tokens), norm]
    forward = [linear(width, ffn, tokens), linear(ffn, width, tokens), norm]
    layer = total(*attend, *forward).beside(width * tokens)
    # Every family here has one more layer before the answers: a pooler, or the classifier's own.
    head = [linear(width, width, 1), linear(width, task.classes, 1)]
    return total(*tables, layer_norm(here.embedded, tokens), *projected, layer * here.layers, *head)


def kin(teacher: nn.Module) -> Kin | None:
    """The family of a teacher that is an encoder of the transformers library: its heads' size, norms and tables."""
    seen: Any = teacher
    family = getattr(seen, "family", None)
    if not isinstance(family, Family):
        return None
    rest: dict[str, Any] = dict(seen.settings)
    sizes = {name: int(rest.pop(family.names[name])) for name in family.names}
    whole = Net(
        **sizes,
        embedded=int(rest.get("embedding_size", sizes["hidden"])),
        vocabulary=rest["vocab_size"],
        positions=rest["max_position_embeddings"],
        segments=int(rest.get("type_vocab_size", 0)),
    )
    head_dim = whole.hidden // whole.heads

    def searched(task: TextTask) -> tuple[Parameter, ...]:
        heads, ffn = _step(whole.heads, head_dim), _step(whole.ffn, 1)
        return (
            Parameter("layers", 1, whole.layers, 1, "transformer layers"),
            Parameter(
                "heads", heads, whole.heads, heads, f"attention heads of {head_dim} features, which make the width"
            ),
            Parameter("ffn", ffn, whole.ffn, ffn, "width of the feed-forward"),
        )

    def part(architecture: Architecture) -> Net:
        width = head_dim * architecture["heads"]
        embedded = whole.embedded if "embedding_size" in rest else width
        narrower = replace(whole, hidden=width, embedded=embedded, layers=architecture["layers"])
        return replace(narrower, heads=architecture["heads"], ffn=architecture["ffn"])

    def made(architecture: Architecture, task: TextTask) -> Recipe:
        return _recipe(family, part(architecture), rest)

    def counted(architecture: Architecture, task: TextTask) -> Count:
        return count_net(part(architecture), task)

    return Kin(searched, made, counted, "adamw", name=family.model_type, domain=DOMAIN)


def _step(whole: int, unit: int) -> int:
    """The least step that divides `whole` and is as wide as devices like; 1 where few values would be left."""
    steps = (step for step in range(1, whole // _LEAST_VALUES + 1) if whole % step == 0 and step * unit >= _WIDTH_STEP)
    return next(steps, max(1, whole // _LEAST_VALUES) if whole % _LEAST_VALUES == 0 else 1)


def _recipe(family: Family, here: Net, rest: dict[str, Any]) -> Recipe:
    sizes = {family.names[name]: getattr(here, name) for name in family.names}
    return Recipe(family.model_type, {**rest, **sizes}, zoo=ZOO)


spaces.add(
    "bert",
    Space(
        name="bert",
        doc="BERT encoders for texts, stock transformers: layers, heads and feed-forward; the teacher's tokenizer.",
        parameters=parameters,
        model=model,
        count=count,
        optimizer="adamw",
        refuses=refuses,
        domain=DOMAIN,
    ),
)
