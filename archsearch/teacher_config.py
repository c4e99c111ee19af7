"""A config.json of timm's, read strictly: every piece that is missing or no number is named.

What is in such a file decides what a teacher answers, and comes from anywhere; nothing of it is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

# Arguments of timm.create_model that read files, reach for the network or change what is returned.
FORBIDDEN_ARGS = frozenset(
    {
        "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only",
        "num_classes", "in_chans", "scriptable", "exportable", "no_jit", "pruned", "device", "dtype",
    }
)  # fmt: skip
LARGEST_SIDE, MOST_CHANNELS, MOST_CLASSES = 1024, 16, 1_000_000
# Pixels are in 0-1: a mean of 123.7 is one of 0-255, and a deviation of nothing divides by it.
LARGEST_MEAN, SMALLEST_STD, LARGEST_STD = 10.0, 1e-6, 100.0
_DEEPEST, _MOST_VALUES = 16, 200_000


def teacher_fields(config: Any) -> dict[str, Any]:
    """The fields of an `UploadedTeacher` that a timm config.json holds; raises ValueError naming what is wrong."""
    check_plain(config, "config")
    pretrained = _mapping(_piece(config, "pretrained_cfg", "config"), "config.pretrained_cfg")
    in_chans, height, width = _input_size(_piece(pretrained, "input_size", "config.pretrained_cfg"))
    classes = check_count(_piece(config, "num_classes", "config"), 0, MOST_CLASSES, "config.num_classes")
    if pretrained.get("num_classes", classes) != classes:
        raise ValueError(
            f"config.num_classes is {classes}, config.pretrained_cfg.num_classes {pretrained['num_classes']!r}: the "
            "weights have one head; correct the wrong one"
        )
    args = _mapping(config.get("model_args") or {}, "config.model_args")
    architecture = _piece(config, "architecture", "config")
    if not isinstance(architecture, str) or not architecture:
        raise ValueError(f"config.architecture: {architecture!r:.60} is no timm model's name")
    for name in ("mean", "std"):
        values = _piece(pretrained, name, "config.pretrained_cfg")
        check_normalisation(name, values, in_chans, f"config.pretrained_cfg.{name}")
    return {
        "architecture": architecture,
        "model_args": {name: value for name, value in args.items() if name not in FORBIDDEN_ARGS},
        "num_classes": classes,
        "in_chans": in_chans,
        "mean": pretrained["mean"],
        "std": pretrained["std"],
        "input_size": height if height == width else [height, width],
        **_class_names(config, pretrained, classes),
    }


def check_plain(value: Any, field: str) -> None:
    """Raise ValueError unless a value is JSON that every reader takes: finite, shallow, of whole characters."""
    level, seen = [value], 0
    for _ in range(_DEEPEST):
        seen += len(level)
        if seen > _MOST_VALUES:
            raise ValueError(f"{field}: more than {_MOST_VALUES:,} values are no configuration")
        for each in level:
            _check_scalar(each, field)
        level = [inside for each in level for inside in _inside(each)]
        if not level:
            return
    raise ValueError(f"{field}: nested more than {_DEEPEST} deep")


def check_normalisation(name: str, values: Any, in_chans: int, field: str) -> None:
    """Raise ValueError unless `mean` or `std` is one number a channel, of pixels in 0-1."""
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(map(_is_number, values)):
        raise ValueError(f"{field}: a list of {in_chans} numbers, not {values!r:.60}")
    if len(values) != in_chans:
        raise ValueError(f"{field} has {len(values)} values for {in_chans} channels")
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{field}: NaN and infinity are no numbers to normalise with")
    if name == "std" and min(values) <= 0:
        raise ValueError(f"{field} must be positive")
    low, high = (-LARGEST_MEAN, LARGEST_MEAN) if name == "mean" else (SMALLEST_STD, LARGEST_STD)
    if not all(low <= value <= high for value in values):
        raise ValueError(f"{field}: {list(values)} is not of pixels in 0-1; where pixels were 0-255, divide by 255")


def check_count(value: Any, least: int, most: int, field: str) -> int:
    """A whole number between bounds; raises ValueError for anything else, and for words that look like one."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{field}: a whole number of {least} to {most:,}, not {value!r:.60}")
    return value


def check_input_size(value: Any) -> Any:
    """A side in pixels, or [height, width]; the same twice is one. Raises ValueError for anything else."""
    if value is None:
        return None
    both = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(both) != 2 or not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in both):
        raise ValueError(f"give one side in pixels or [height, width], each of 1 to {LARGEST_SIDE}")
    return both[0] if both[0] == both[1] else tuple(both)


def sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of an input size."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _input_size(value: Any) -> tuple[int, int, int]:
    field = "config.pretrained_cfg.input_size"
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError(f"{field}: channels, height and width, not {value!r:.60}")
    bounds = ((f"{field}[0]", MOST_CHANNELS), (f"{field}[1]", LARGEST_SIDE), (f"{field}[2]", LARGEST_SIDE))
    channels, height, width = (
        check_count(each, 1, most, name) for each, (name, most) in zip(value, bounds, strict=True)
    )
    return channels, height, width


def _piece(config: Any, name: str, field: str) -> Any:
    found = _mapping(config, field)
    if found.get(name) is None:
        raise ValueError(f"{field}.{name} is missing, so this is not a config.json of timm's")
    return found[name]


def _mapping(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{field}: a mapping, not {value!r:.60}")
    return value


def _class_names(config: Any, pretrained: Mapping[str, Any], count: int) -> dict[str, list[str]]:
    """The names timm keeps beside the weights, a list or a mapping from their numbers, where no two are alike."""
    names = config.get("label_names") or pretrained.get("label_names") or ()
    if isinstance(names, Mapping):
        if not all(str(number).isdecimal() and len(str(number)) < 8 for number in names):
            raise ValueError("config.label_names: a list, or a mapping of numbers to names")
        names = [names[number] for number in sorted(names, key=lambda number: int(str(number)))]
    if not isinstance(names, Sequence) or isinstance(names, str):
        raise ValueError(f"config.label_names: a list of names, not {names!r:.60}")
    texts = [str(name) for name in names]
    if texts and len(texts) != count:
        raise ValueError(f"config.label_names has {len(texts)} names for {count} classes")
    return {"class_names": texts} if texts and len(set(texts)) == count and all(texts) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list | tuple) else ()


def _check_scalar(value: Any, field: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{field}: NaN and infinity are no JSON")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{field}: half a character (a lone surrogate) is no text") from None
