"""What becomes of an image before a network sees it, said once: a student's files hold it, and their users read it.

The code that does it is photo.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter

from archsearch.data.task import Kind
from archsearch.domains.images.task import ImageTask
from archsearch.request import Fit


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to what a network computes on, and from its answers to names.

    Attributes:
        fit: How an image of another size gets this one; see `photo.fitted`.
        mean, std: Per channel, of pixels in 0-1; exported programs normalise by themselves.
        labels: Names of the classes, in the order of the answers; empty where they have only numbers.
        input: What exported programs take.
    """

    __pydantic_config__ = ConfigDict(extra="ignore")

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Fit = "crop"
    labels: tuple[str, ...] = ()
    kind: Kind = "classification"
    resample: Literal["bicubic"] = "bicubic"
    exif: Literal[True] = True
    transparency: Literal["white"] = "white"
    input: Literal["uint8 N×H×W×C"] = "uint8 N×H×W×C"

    @classmethod
    def of(cls, task: ImageTask) -> Preprocessing:
        """What a task's images go through."""
        return cls(
            task.height, task.width, task.in_chans, task.mean, task.std, task.fit, task.class_names, task.kind
        )  # fmt: skip

    def fields(self) -> dict[str, Any]:
        """Plain data, as `preprocessing.json` holds it."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found

    def texts(self) -> dict[str, str]:
        """Every field as JSON, for a model file's metadata."""
        return {name: json.dumps(value, ensure_ascii=False) for name, value in self.fields().items()}


def parse_preprocessing(fields: Any) -> Preprocessing:
    """The statement plain data make; raises ValueError where they make none."""
    return _ADAPTER.validate_python(fields)


_ADAPTER = TypeAdapter(Preprocessing)
