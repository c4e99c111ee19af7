"""Data sets from .npz files: x_train and y_train, and the other splits where the user has them."""

from __future__ import annotations

import difflib
import math
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from archsearch.data.archive import check_ratio, open_zip
from archsearch.data.batches import require_room
from archsearch.data.labels import (
    check_label_layout,
    check_labels,
    check_names,
    check_range,
    count_classes,
    count_labels,
    refuse_one_hot,
)
from archsearch.data.limits import Limits
from archsearch.data.npy import Header, read_array, read_header
from archsearch.data.task import is_unknown, unknown
from archsearch.data.unlabelled import check_enough
from archsearch.domains.images.assemble import settle
from archsearch.domains.images.duplicates import look
from archsearch.domains.images.layout import UNLABELLED
from archsearch.domains.images.pixels import check_layout, to_pixels
from archsearch.domains.images.task import ImageDataset, ImageSplit
from archsearch.errors import DataError, TooLarge
from archsearch.request import OnDuplicates

# N images, H W space, C channels, K classes

SPLITS = ("train", "selection", "test")
X_UNLABELLED = f"x_{UNLABELLED}"
KEYS = (*(f"{axis}_{name}" for name in SPLITS for axis in "xy"), X_UNLABELLED, "class_names")
MOST_ARRAYS = 1000
FIX = "write the file with np.savez_compressed(path, x_train=..., y_train=...)"


def load_npz(path: Path, limits: Limits | None = None, *, duplicates: OnDuplicates = "refuse") -> ImageDataset:
    """The data set of an .npz file: arrays x_train, y_train; optional x_/y_selection, x_/y_test, class_names and
    x_unlabelled, images that nobody has labelled.

    Images are N×H×W or N×H×W×C with 1 to 4 channels, uint8 or floats in 0-1. Labels are whole numbers 0 to K-1, or
    N×K of whole numbers or booleans, 1 where an image has a label, where it may have any number of them.
    A split that is missing is held out of train, stratified and always the same. Of a file that holds nothing but
    images (x_train or x_unlabelled or both, and what splits there are) none has a label, and the teacher's classes will
    be the task. Other keys are left unread, except
    that an unknown one starting with x_ or y_ is refused. `duplicates` says what images do that are there twice: see
    `duplicates.look`. Raises DataError or TooLarge whose `field` is the key.
    """
    limits = limits or Limits()
    splits, names = read_npz(path, limits)
    labelled = {name: split for name, split in splits.items() if name != UNLABELLED}
    classes = _count(labelled, names, limits)
    looked = look(labelled, duplicates, lambda split, row: f"image {row} of x_{split}")
    if duplicates == "drop":
        classes = _count(looked.splits, names, limits)
    return settle(splits, looked, duplicates, classes, names)


def read_npz(path: Path, limits: Limits) -> tuple[dict[str, ImageSplit], tuple[str, ...]]:
    """The splits an .npz file has, `unlabelled` too if it is there, and the names of its classes; see `load_npz`.

    Where no image has a label all labels are `UNKNOWN`, and images of x_unlabelled are of the training split.
    """
    # A handful of arrays: an archive of a hundred thousand members is something else.
    with open_zip(path, replace(limits, max_members=min(limits.max_members, MOST_ARRAYS)), FIX) as archive:
        headers = _read_headers(archive, path.name, limits)
        _check_headers(headers, limits)
        names = _read_names(archive, headers, limits)
        _check_room(headers)
        splits = {name: _read_split(archive, headers, name) for name in SPLITS if f"x_{name}" in headers}
        if X_UNLABELLED in headers:
            splits[UNLABELLED] = _read_split(archive, headers, UNLABELLED)
        return splits if any(key.startswith("y_") for key in headers) else _all_alike(splits), names


def _all_alike(splits: dict[str, ImageSplit]) -> dict[str, ImageSplit]:
    """Splits of which no image has a label, those that are called so among the others to learn from."""
    apart = splits.pop(UNLABELLED, None)
    if apart is not None:
        splits["train"] = splits["train"].joined([apart]) if "train" in splits else apart
    return splits


def _count(splits: Mapping[str, ImageSplit], names: tuple[str, ...], limits: Limits) -> int:
    """K; 0 where no image has a label."""
    y_train = splits["train"].y_N
    if is_unknown(y_train):
        check_enough(sum(map(len, splits.values())), "image", "x_train")
        return 0
    if y_train.ndim == 1:
        classes = count_classes(y_train, names, limits)
        for name, split in splits.items():
            check_range(f"y_{name}", split.y_N, classes)
        return classes
    if names and len(names) != y_train.shape[1]:
        detail = f"has {len(names)} names for the {y_train.shape[1]} columns of y_train; give one for each"
        raise DataError(detail, field="class_names")
    fix = "save y_train.argmax(axis=1), and so for every split"
    refuse_one_hot("y_train", [split.y_N for split in splits.values()], fix)
    return count_labels("y_train", y_train, names, limits)


def _read_headers(archive: zipfile.ZipFile, file: str, limits: Limits) -> dict[str, Header]:
    members = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")}
    for key in members:
        if key in ("y_unlabelled", "y_unlabeled"):
            detail = "would not be read, for images of x_unlabelled have no labels; remove it, or add both to train"
            raise DataError(detail, field=key)
        if key[:2] in ("x_", "y_") and key not in KEYS and {"x_train", "y_train"} <= members.keys():
            # Silently leaving out somebody's validation images would be worse than asking.
            near = difflib.get_close_matches(key.replace("val", "selection"), KEYS, n=1, cutoff=0.5)
            raise DataError(f"would not be read; rename it {near[0] if near else KEYS[2]} or remove it", field=key)
    if _nothing_but_images(members):
        return {key: read_header(archive, info) for key, info in members.items()}
    needed = () if not limits.to_learn_from and _held_out_alone(members) else ("train",)
    for name in SPLITS:
        for key, other in ((f"x_{name}", f"y_{name}"), (f"y_{name}", f"x_{name}")):
            if key not in members and (name in needed or other in members):
                raise DataError(f"{file} has no such array, only {_listing(members)}; {FIX}", field=key)
    return {key: read_header(archive, info) for key, info in members.items() if key in KEYS}


def _nothing_but_images(members: Mapping[str, object]) -> bool:
    """Whether it is plain that no image has a label: any other array might be theirs."""
    return bool({"x_train", X_UNLABELLED} & members.keys()) and all(key in KEYS and key[:2] == "x_" for key in members)


def _held_out_alone(members: Mapping[str, object]) -> bool:
    return any({f"x_{name}", f"y_{name}"} <= members.keys() for name in SPLITS)


def _listing(members: Mapping[str, object]) -> str:
    names = sorted(members)
    return ", ".join(names[:12]) + (" …" if len(names) > 12 else "") if names else "nothing"


def _check_headers(headers: dict[str, Header], limits: Limits) -> None:
    images = sum(header.shape[0] for key, header in headers.items() if key.startswith("x_") and header.shape)
    if images > limits.max_examples:
        raise TooLarge(f"{images:,} images in all splits, at most {limits.max_examples:,} are taken", field="x_train")
    first = next(name for name in (*SPLITS, UNLABELLED) if f"x_{name}" in headers)
    for name in (*SPLITS, UNLABELLED):
        if header := headers.get(f"x_{name}"):
            check_ratio(header.info, limits)
            check_layout(header.key, header.shape, header.dtype, limits)
            own, others = header.shape[1:], headers[f"x_{first}"].shape[1:]
            if own != others:
                raise DataError(f"has images of shape {own}, x_{first} of {others}; make them equal", field=header.key)
    for name in SPLITS:
        if (header := headers.get(f"x_{name}")) and f"y_{name}" in headers:
            labels = headers[f"y_{name}"]
            check_label_layout(labels.key, labels.shape, labels.dtype, header.shape[0])
            own, others = labels.shape[1:], headers[f"y_{first}"].shape[1:]
            if own != others:
                held = [f"{shape[0]} columns of labels" if shape else "one label an image" for shape in (own, others)]
                raise DataError(f"has {held[0]}, y_{first} {held[1]}; make them equal", field=labels.key)


def _check_room(headers: Mapping[str, Header]) -> None:
    """Raises TooMuchMemory for images that are beyond it: once as they come, and as bytes sorted into splits."""
    images = [header for key, header in headers.items() if key.startswith("x_")]
    as_bytes = sum(math.prod(header.shape) for header in images)
    held = as_bytes + sum(header.nbytes for header in images)
    fix = "give the images as files in a folder or zip (image_folder), which are read as they are trained on"
    require_room(held, f"{sum(header.shape[0] for header in images):,} images", field="x_train", fix=fix)


def _read_names(archive: zipfile.ZipFile, headers: dict[str, Header], limits: Limits) -> tuple[str, ...]:
    if "class_names" not in headers:
        return ()
    return check_names(read_array(archive, headers["class_names"]), limits)


def _read_split(archive: zipfile.ZipFile, headers: dict[str, Header], name: str) -> ImageSplit:
    # Labels first: they are small, and wrong more often.
    x_key, y_key = f"x_{name}", f"y_{name}"
    y_N = check_labels(y_key, read_array(archive, headers[y_key])) if y_key in headers else None
    x_NHWC = to_pixels(x_key, read_array(archive, headers[x_key]))
    return ImageSplit(x_NHWC, unknown(len(x_NHWC)) if y_N is None else y_N)
