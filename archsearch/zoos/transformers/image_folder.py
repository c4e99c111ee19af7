"""A folder of an image network of the transformers library, read before the library does: strictly, running nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsearch.errors import TeacherError
from archsearch.teacher_config import LARGEST_SIDE, MOST_CHANNELS, check_count, check_normalisation, check_plain
from archsearch.teachers.source import check_weights_file
from archsearch.zoos.image_networks import IMAGE_TYPES, is_image_network
from archsearch.zoos.transformers.folder import CONFIG, NO_CODE, WEIGHTS, class_names, read_config, without_weights

PREPROCESSOR = "preprocessor_config.json"
# All that is ever read of a folder.
IMAGE_FILES = (CONFIG, WEIGHTS, PREPROCESSOR)
# Far beyond every network of images, and far below what would take hours to build.
_MOST = {"num_hidden_layers": 256, "num_attention_heads": 1024, "hidden_size": 65_536, "intermediate_size": 262_144}
_MOST_BLOCKS = 2048
_MOST_BYTES = 2**20
_HALF = 0.5


@dataclass(frozen=True)
class ImageFolder:
    """What a folder says of its network before that is built.

    Attributes:
        mean, std: Per channel, of pixels in 0-1.
        input_hw: Pixels it was trained at; None where nothing says.
        normalised: Whether the folder says how pixels are normalised.
    """

    path: Path
    config: Mapping[str, Any]
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_hw: tuple[int, int] | None
    normalised: bool


def is_image_folder(folder: Path) -> bool:
    """Whether a folder's config.json is of an image network of the transformers library."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and is_image_network(config)


def read_image_folder(folder: Path, *, field: str) -> ImageFolder:
    """What is in a folder; raises TeacherError saying what is missing or refused. Needs no torch."""
    config = read_config(folder, field)
    try:
        check_image_config(config)
        in_chans = check_count(config.get("num_channels", 3), 1, MOST_CHANNELS, "num_channels")
        size = _sides(config.get("image_size"), "image_size")
    except ValueError as error:
        raise TeacherError(f"{CONFIG}: {error}", field=field) from None
    names = {path.name for path in folder.iterdir()}
    if WEIGHTS not in names:
        raise TeacherError(without_weights(names, str(folder)), field=field)
    check_weights_file(folder / WEIGHTS, field=field)
    shown = _preprocessor(folder, field) if PREPROCESSOR in names else {}
    try:
        mean, std, input_hw = _shown(shown, in_chans, size)
    except ValueError as error:
        raise TeacherError(f"{PREPROCESSOR}: {error}", field=field) from None
    return ImageFolder(folder, config, in_chans, mean, std, input_hw, bool(shown))


def describe(config: Mapping[str, Any], names: Collection[str], *, field: str) -> dict[str, Any]:
    """What a teacher's config.json tells of it, as plain JSON; raises TeacherError as `read_image_folder` does."""
    try:
        check_image_config(config)
        in_chans = check_count(config.get("num_channels", 3), 1, MOST_CHANNELS, "num_channels")
    except ValueError as error:
        raise TeacherError(f"{CONFIG}: {error}", field=field) from None
    if WEIGHTS not in names:
        raise TeacherError(without_weights(names, "the folder"), field=field)
    told = {"architecture": config["model_type"], "in_chans": in_chans}
    labels = config.get("id2label")
    if not isinstance(labels, Mapping) or not labels:
        return told
    called = class_names(config, len(labels))
    return {**told, "num_classes": len(labels), **({"class_names": list(called)} if called else {})}


def check_image_config(config: Any) -> None:
    """Raise ValueError naming the field of a config.json that is wrong."""
    check_plain(config, "config")
    if config.get("model_type") not in IMAGE_TYPES:
        kind = f"{config.get('model_type')!r:.60}"
        raise ValueError(
            f"model_type {kind} is no image classifier known here; there are {', '.join(sorted(IMAGE_TYPES))}"
        )
    for name, reason in NO_CODE.items():
        if config.get(name):
            raise ValueError(reason)
    for name, most in _MOST.items():
        if type(config.get(name)) is int:
            check_count(config[name], 1, most, name)
    depths = config.get("depths")
    if isinstance(depths, list) and sum(each for each in depths if isinstance(each, int)) > _MOST_BLOCKS:
        raise ValueError(f"depths: more blocks than any network has ({_MOST_BLOCKS:,})")


def _preprocessor(folder: Path, field: str) -> dict[str, Any]:
    path = folder / PREPROCESSOR
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large for a configuration")
        found = json.loads(path.read_text(encoding="utf-8"))
        check_plain(found, PREPROCESSOR)
        if not isinstance(found, dict):
            raise ValueError("it holds no mapping")
    except (OSError, ValueError, RecursionError) as error:
        raise TeacherError(f"{PREPROCESSOR} cannot be read: {error}", field=field) from None
    return found


def _shown(
    shown: Mapping[str, Any], in_chans: int, size: tuple[int, int] | None
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, int] | None]:
    """Mean, deviation and size of what the library's image processor makes of pixels."""
    mean, std = [_HALF] * in_chans, [_HALF] * in_chans
    if shown:
        plain = shown.get("do_normalize", True) is False
        mean = [0.0] * in_chans if plain else shown.get("image_mean", mean)
        std = [1.0] * in_chans if plain else shown.get("image_std", std)
        # Pixels of 0-255 times this, a 255th mostly, are what mean and deviation are of.
        factor = 255 * _number(shown, "rescale_factor", 1 / 255) if shown.get("do_rescale", True) else 255.0
        if shown.get("rescale_offset"):
            raise ValueError("rescale_offset: pixels moved before they are normalised are not known here")
        mean, std = (
            [each / factor for each in _numbers(values, name)]
            for values, name in ((mean, "image_mean"), (std, "image_std"))
        )
        cropped = shown.get("crop_size") if shown.get("do_center_crop") else None
        size = _sides(cropped or shown.get("size"), "size") or size
    for name, values in (("image_mean", mean), ("image_std", std)):
        check_normalisation(name.removeprefix("image_"), values, in_chans, name)
    return tuple(mean), tuple(std), size


def _number(shown: Mapping[str, Any], name: str, usual: float) -> float:
    value = shown.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{name}: a number above 0, not {value!r:.60}")
    return float(value)


def _numbers(values: Any, name: str) -> list[float]:
    if not isinstance(values, list) or not all(type(each) in (int, float) for each in values):
        raise ValueError(f"{name}: a list of numbers, not {values!r:.60}")
    return values


def _sides(value: Any, name: str) -> tuple[int, int] | None:
    """Height and width of what the library calls a size: a side, two, or a mapping."""
    if isinstance(value, Mapping):
        value = [value["height"], value["width"]] if {"height", "width"} <= value.keys() else value.get("shortest_edge")
    if value is None:
        return None
    both: Sequence[Any] = value if isinstance(value, list) else [value, value]
    if len(both) != 2:
        raise ValueError(f"{name}: a side or two, not {value!r:.60}")
    height, width = (check_count(side, 1, LARGEST_SIDE, name) for side in both)
    return height, width
