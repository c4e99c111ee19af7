"""Which of timm's architectures have the tensors of a checkpoint, without building thirteen hundred networks.

`architectures.json` keeps digests of what timm builds; `python -m archsearch.teachers.index` writes it again for
another timm. What it finds is a hint: the network is built, on the meta device, before it is believed.
"""

# K classes, C channels

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_FILE = Path(__file__).with_name("architectures.json")
# Free to differ between networks of one architecture: the size of the images is in the positions, and old torch
# counted no batches.
_FREE = re.compile(r"(?:^|\.)(?:pos_embed|num_batches_tracked)$")


@dataclass(frozen=True)
class Ends:
    """The layers of an architecture that follow the data: those that take the image, those that answer."""

    first: tuple[str, ...]
    last: tuple[str, ...]

    def free(self) -> frozenset[str]:
        """Names of the tensors whose shapes follow the data's channels and classes."""
        weights = [f"{name}.weight" for name in self.first]
        return frozenset([*weights, *(f"{name}.{part}" for name in self.last for part in ("weight", "bias"))])


@dataclass(frozen=True)
class Entry:
    """One of timm's architectures.

    Attributes:
        tensors: Between its ends (count).
        names, shapes: Digests of their names, and of names and shapes.
        order: Digest of all shapes but the first one's and the last two's, in order: names of no account.
    """

    architecture: str
    ends: Ends
    tensors: int
    names: str
    shapes: str
    order: str


@cache
def entries() -> tuple[Entry, ...]:
    """The index; where it is of another timm, its digests are tried all the same."""
    kept = json.loads(_FILE.read_text(encoding="utf-8"))
    ends = [Ends(tuple(first), tuple(last)) for first, last in kept["ends"]]
    return tuple(Entry(name, ends[row[0]], *row[1:]) for name, row in kept["architectures"].items())


def with_tensors(shapes: Shapes) -> list[Entry]:
    """Architectures that have these tensors, whatever their classes, channels and, of transformers, image size."""
    digests = {ends: digest(shapes, ends) for ends in dict.fromkeys(entry.ends for entry in entries())}
    return [entry for entry in entries() if digests[entry.ends][2] == entry.shapes]


def nearest(shapes: Shapes, most: int = 3) -> list[Entry]:
    """Architectures whose tensors have the same names, else as many of them, the nearest first."""
    digests = {ends: digest(shapes, ends) for ends in dict.fromkeys(entry.ends for entry in entries())}
    present = [entry for entry in entries() if all(f"{name}.weight" in shapes for name in entry.ends.first)]
    same = [entry for entry in present if digests[entry.ends][1] == entry.names]
    others = sorted(present, key=lambda entry: abs(entry.tensors - digests[entry.ends][0]))
    return (same or others)[:most]


def in_order(shapes: Iterable[Shape]) -> list[str]:
    """Architectures whose tensors, whatever their names, have these shapes in this order."""
    wanted = _order(shapes)
    return [entry.architecture for entry in entries() if entry.order == wanted]


def digest(shapes: Shapes, ends: Ends) -> tuple[int, str, str]:
    """Number of the tensors between the ends, digest of their names, digest of their names and shapes."""
    free = ends.free()
    body = sorted((name, shape) for name, shape in shapes.items() if name not in free and not _FREE.search(name))
    names = "\n".join(name for name, _ in body)
    whole = "\n".join(f"{name} {list(shape)}" for name, shape in body)
    return len(body), _short(names), _short(whole)


def ends_of(config: Any) -> Ends:
    """The ends by a timm configuration."""
    return Ends(names_of(config.first_conv), names_of(config.classifier))


def make(architectures: Iterable[str]) -> dict[str, Any]:
    """The index of these architectures, as it is kept."""
    import timm

    found = dict(_built(architectures))
    ends = list(dict.fromkeys(each for each, _ in found.values()))
    rows = {
        name: [ends.index(each), *digest(shapes, each), _order(counted(shapes).values())]
        for name, (each, shapes) in found.items()
    }
    return {"timm": timm.__version__, "ends": [[each.first, each.last] for each in ends], "architectures": rows}


def _built(architectures: Iterable[str]) -> Iterator[tuple[str, tuple[Ends, Shapes]]]:
    import timm
    import torch

    for name in architectures:
        config = timm.get_pretrained_cfg(name)
        if config is None or not config.classifier or not config.first_conv:
            continue
        with torch.device("meta"):
            model = timm.create_model(name)
        yield name, (ends_of(config), {key: tuple(value.shape) for key, value in model.state_dict().items()})


def counted(shapes: Shapes) -> Shapes:
    """Without what old torch did not count."""
    return {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}


def _order(shapes: Iterable[Shape]) -> str:
    return _short("\n".join(str(list(shape)) for shape in list(shapes)[1:-2]))


def names_of(value: Any) -> tuple[str, ...]:
    """One name or several, as timm's configurations have them."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write(path: Path = _FILE) -> None:
    """Write the index of the installed timm; takes minutes."""
    import timm

    made = make(timm.list_models())
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in made["architectures"].items())
    head = f'{{"timm": {json.dumps(made["timm"])},\n"ends": {json.dumps(made["ends"])},\n'
    path.write_text(f'{head}"architectures": {{\n{rows}\n}}}}\n', encoding="utf-8")


if __name__ == "__main__":
    write()
