"""How a graph is shown images and what it answers, as far as a request or the file itself says."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

from archsearch.errors import TeacherError
from archsearch.request import LocalTeacher, OnnxTeacher
from archsearch.teacher_config import LARGEST_SIDE, check_normalisation, check_plain, sides
from archsearch.teachers.classes import is_place

# A list of names, and hardly anything else in a file's metadata, may be long.
_LONGEST = 2**20
# As in a request.
_LONGEST_NAME = 1000
# What exporters call the names of classes: ours, ultralytics, transformers.
_NAMES = ("labels", "names", "id2label", "class_names", "classes")


@dataclass(frozen=True)
class Shown:
    """What somebody says; None and nothing where he does not.

    Attributes:
        scale: What a pixel's largest value is to the graph, 1 or 255.
        mean, std: Per channel, of pixels in 0-1, whatever the scale.
        outputs: Whether answers are logits or probabilities.
    """

    layout: str | None = None
    scale: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    outputs: str | None = None
    class_names: tuple[str, ...] = ()
    input_hw: tuple[int, int] | None = None

    def over(self, other: Shown) -> Shown:
        """This, and of another what is not said here."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{name: value for name, value in mine.items() if value not in (None, ())})


def said(source: LocalTeacher | OnnxTeacher, input_size: int | Sequence[int] | None) -> Shown:
    """What a request says; `input_size` is the job's own word, where it has one."""
    scale = None if source.scale is None else int(source.scale.removeprefix("0-"))
    asked = source.input_size if input_size is None else input_size
    return Shown(
        layout=source.layout,
        scale=scale,
        mean=_of_unit(source.mean, scale),
        std=_of_unit(source.std, scale),
        outputs=source.outputs,
        class_names=tuple(source.class_names or ()),
        input_hw=None if asked is None else sides(asked),
    )


def in_file(texts: Mapping[str, str], field: str, *, whole: bool = False) -> Shown:
    """What a file's metadata say, of whatever exporter; raises TeacherError where that is a normalisation and none.

    Ours say everything, and that the graph normalises by itself; ultralytics name classes and size.

    Args:
        whole: Whether the graph takes whole numbers, as ours do.
    """
    known = {name: _plain(text) for name, text in texts.items() if len(text) <= _LONGEST}
    names, size = _names(known), _size(known)
    if whole and str(known.get("input", "")).startswith("uint8"):  # the graph takes pixels as files hold them
        return Shown("nhwc", 255, outputs="logits", class_names=names, input_hw=size)
    scale = 255 if known.get("scale") in (255, "0-255") else None
    mean, std = (_values(known.get(name), name, scale or 1, field) for name in ("mean", "std"))
    layout = str(known.get("layout", "")).lower()
    outputs = known.get("outputs")
    return Shown(
        layout if layout in ("nchw", "nhwc") else None,
        scale,
        mean,
        std,
        outputs if outputs in ("logits", "probabilities") else None,
        names,
        size,
    )


def _of_unit(values: Sequence[float] | None, scale: int | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(value / (scale or 1) for value in values)


def _plain(text: str) -> Any:
    """JSON, or what Python writes of lists and mappings; the text itself where it is neither."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    if _is_flat(text):
        with suppress(ValueError, SyntaxError):
            return ast.literal_eval(text)
    return text


def _is_flat(text: str) -> bool:
    """Whether it is a list or a mapping of texts and numbers, and no expression that Python would have to work at."""
    plain = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", "0", text)
    return re.fullmatch(r"\s*(?:\{[\s\d:,.]*\}|\[[\s\d,.]*\]|\([\s\d,.]*\))\s*", plain) is not None


def _values(value: Any, name: str, scale: int, field: str) -> tuple[float, ...] | None:
    value = [value] if type(value) in (int, float) else value
    if not isinstance(value, list | tuple) or not value:
        return None
    try:
        # Before and after: only numbers can be divided.
        if not all(type(each) in (int, float) for each in value):
            raise ValueError(f"the file's {name}: a list of numbers, not {value!r:.60}")
        found = [each / scale for each in value]
        check_normalisation(name, found, len(found), f"the file's {name}")
    except (OverflowError, ValueError) as error:
        raise TeacherError(f"{error}; say teacher.{name}, which goes first", field=field) from None
    return tuple(found)


def _names(known: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the classes, in order: a list, or a mapping from their numbers."""
    for name in _NAMES:
        value = known.get(name)
        if isinstance(value, Mapping) and all(map(is_place, value)):
            value = [value[number] for number in sorted(value, key=lambda number: int(str(number)))]
        if isinstance(value, list | tuple) and value and all(map(_is_name, value)):
            names = tuple(map(str, value))
            return names if len({*names}) == len(names) else ()
    return ()


def _is_name(value: Any) -> bool:
    """Whether it is what a class may be called: text that a database keeps, no longer than in a request."""
    with suppress(ValueError):
        check_plain(value, "name")
        return type(value) in (str, int) and 0 < len(str(value)) <= _LONGEST_NAME and "\0" not in str(value)
    return False


def _size(known: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = known.get("height"), known.get("width")
    for both in ((height, width), known.get("imgsz"), known.get("input_size")):
        both = (both, both) if isinstance(both, int) else both
        if isinstance(both, list | tuple) and len(both) >= 2:
            found = both[-2:]
            if all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in found):
                return found[0], found[1]
    return None


def in_whole_numbers(shown: Shown) -> Shown:
    """What is said of a graph that takes whole numbers, which are pixels of 0-255, as is what is said of them."""
    return replace(shown, scale=255, mean=_of_unit(shown.mean, 255), std=_of_unit(shown.std, 255))
