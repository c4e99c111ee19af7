"""Data sets from image files: a folder, or a zip of one, with a folder for every class or a table of many labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from archsearch.data.files import Files, open_files
from archsearch.data.labels import count_classes, count_labels
from archsearch.data.limits import NO_LIMIT, Limits
from archsearch.data.notes import Note
from archsearch.data.task import Labels
from archsearch.data.unlabelled import check_enough
from archsearch.domains.images.assemble import settle
from archsearch.domains.images.duplicates import look
from archsearch.domains.images.labels_csv import find_table, plan_table
from archsearch.domains.images.layout import UNLABELLED, Layout, plan
from archsearch.domains.images.read_images import Broken, first_size, read_images
from archsearch.domains.images.streamed import as_files, read_encoded, streams
from archsearch.domains.images.task import ImageDataset, Images, ImageSplit
from archsearch.errors import DataError, InvalidRequest, TooLarge
from archsearch.request import Fit, OnBroken, OnDuplicates

# N images, H W space, C channels

Size = int | tuple[int, int]
Pixels = npt.NDArray[np.uint8]
Listener = Callable[[int, int], None]


def load_image_folder(
    path: Path,
    image_size: Size | None = None,
    limits: Limits | None = None,
    *,
    fit: Fit = "crop",
    on_broken: OnBroken = "refuse",
    duplicates: OnDuplicates = "refuse",
    listener: Listener | None = None,
    cache: Path | None = None,
) -> ImageDataset:
    """The data set of class folders, or of train/, val/ and test/ holding class folders, in a folder or a zip.

    Classes are numbered in the sorted order of their folders' names, as torchvision does. Where a labels.csv lies
    beside the images, it tells their labels, any number an image, and folders mean nothing: see `plan_table`.
    Files stored in grey give one channel if all are, else everything is RGB. Splits that are missing are held out of
    train. Images in unlabelled/, beside the splits or the class folders, have no labels; where that holds all of them,
    or there are no class folders at all, the teacher's classes will be the task. Hidden files, desktop junk and
    documents are left out; any other file in the wrong place is refused. Images that would be too much for memory stay
    files, and are decoded as they are asked for: see `streamed.py`.

    Args:
        image_size: Pixels all images get: a side, or height and width. Without it they have to share one size.
        fit: How an image of another shape gets it; see `photo.fitted`.
        on_broken: Whether images that cannot be read refuse the data or are left out, which a note then says.
        duplicates: What images do that are there twice; see `duplicates.look`.
        listener: Called with images read and images in all, now and then.
        cache: Folder where what was found in very many files is kept, so that they are not all read again.

    Raises DataError, TooLarge or InvalidRequest whose `field` is the file, the class folder with `/`, `path` or
    `image_size`.
    """
    limits = limits or Limits()
    layout, splits, notes = _read(path, image_size, limits, fit, on_broken, listener, cache)
    looked = look(splits, duplicates, lambda split, row: layout.files[split][row])
    if duplicates == "drop":
        _check_labels(looked.splits["train"].y_N, layout.class_names, limits)
    names, called = layout.class_names, lambda row: layout.files[UNLABELLED][row]
    dataset = settle(splits, looked, duplicates, len(names), names, fit, called=called)
    return replace(dataset, notes=(*notes, *dataset.notes))


def read_image_folder(
    path: Path,
    image_size: Size | None,
    limits: Limits,
    *,
    fit: Fit,
    on_broken: OnBroken,
    listener: Listener | None = None,
    cache: Path | None = None,
) -> tuple[Mapping[str, Images], tuple[str, ...], tuple[Note, ...]]:
    """The splits a folder or zip has, the names of its classes, and what reading found; see `load_image_folder`."""
    layout, splits, notes = _read(path, image_size, limits, fit, on_broken, listener, cache)
    return splits, layout.class_names, notes


def _read(
    path: Path,
    image_size: Size | None,
    limits: Limits,
    fit: Fit,
    on_broken: OnBroken,
    listener: Listener | None,
    cache: Path | None,
) -> tuple[Layout, Mapping[str, Images], tuple[Note, ...]]:
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if size is not None and not all(limits.min_side <= side <= limits.max_side for side in size):
        most = "" if limits.max_side == NO_LIMIT else f" and {limits.max_side} at most"
        raise InvalidRequest(f"{image_size}: sides have {limits.min_side} pixels or more{most}", field="image_size")
    with open_files(path, limits) as files:
        layout = _plan(files, limits)
        names = [name for of_split in layout.files.values() for name in of_split]
        split_up: Callable[[Layout], Mapping[str, Images]]
        if streams(len(names), size or first_size(files, names, limits)):
            encoded, broken = read_encoded(files, names, size, limits, fit, listener, cache)
            split_up = partial(as_files, encoded, names)
        else:
            images, broken = read_images(files, names, size, limits, fit, listener)
            split_up = partial(_stack, images)
    notes = list(layout.notes)
    if broken:
        layout = _without(layout, broken, on_broken, len(names), limits)
        notes.append(Note("broken_images", f"left out: {_told(broken, len(names))}"))
    return layout, split_up(layout), tuple(notes)


def _check_labels(y_N: Labels, class_names: tuple[str, ...], limits: Limits) -> None:
    """Raises DataError where too few images of a class are left."""
    if not class_names:
        check_enough(len(y_N), "image", "duplicates")
    elif y_N.ndim == 1:
        count_classes(y_N, class_names, limits)
    else:
        count_labels("duplicates", y_N, class_names, limits)


def _plan(files: Files, limits: Limits) -> Layout:
    table = find_table(files.names)
    if table is None:
        return plan(files.names, limits)
    return plan_table(table, files.read(table), files.names, limits)


def _without(layout: Layout, broken: Broken, on_broken: OnBroken, images: int, limits: Limits) -> Layout:
    """The layout without the broken images; raises unless it is asked to go on, and enough are left."""
    if on_broken == "refuse":
        if len(broken) == 1:
            raise next(iter(broken.values()))
        fix = "replace or remove them, or leave them out with on_broken 'skip' (--on-broken skip)"
        kind = TooLarge if all(isinstance(error, TooLarge) for error in broken.values()) else DataError
        raise kind(f"{_told(broken, images)}; {fix}", field="path")
    kept = {split: np.array([name not in broken for name in names]) for split, names in layout.files.items()}
    files = {split: [name for name in names if name not in broken] for split, names in layout.files.items()}
    labels = {split: y_N[kept[split]] for split, y_N in layout.labels.items()}
    left = replace(layout, files=files, labels=labels)
    _check_left(left, limits)
    return left


def _check_left(layout: Layout, limits: Limits) -> None:
    for split, names in layout.files.items():
        if not names:
            raise DataError(f"no image of the {split} split can be read; replace them", field="path")
    if not limits.to_learn_from:
        return
    y_train = layout.labels["train"]
    if y_train.ndim == 2:
        count_labels("path", y_train, layout.class_names, limits)
        return
    counts = np.bincount(y_train, minlength=len(layout.class_names))
    worst = int(counts.argmin())
    if counts[worst] < limits.min_per_class:
        raise DataError(
            f"{counts[worst]} training image(s) of class {layout.class_names[worst]!r} can be read, "
            f"{limits.min_per_class} or more are needed; replace the broken ones",
            field=f"{layout.class_names[worst]}/",
        )


_TOLD = 5


def _told(broken: Broken, images: int) -> str:
    """How many are broken, and the first of them with what is wrong."""
    few = "; ".join(f"{name} {error.detail.partition(';')[0]}" for name, error in list(broken.items())[:_TOLD])
    more = f"; and {len(broken) - _TOLD:,} more" if len(broken) > _TOLD else ""
    return f"{len(broken):,} of {images:,} images cannot be read: {few}{more}"


def _stack(images: dict[str, Pixels], layout: Layout) -> Mapping[str, ImageSplit]:
    channels = max(image_HWC.shape[-1] for image_HWC in images.values())
    height, width, _ = next(iter(images.values())).shape

    def stacked(names: Sequence[str]) -> Pixels:
        x_NHWC = np.empty((len(names), height, width, channels), dtype=np.uint8)
        for row, name in enumerate(names):
            # Each image is let go once copied; a grey one among coloured ones fills all channels.
            x_NHWC[row] = images.pop(name)
        return x_NHWC

    return {split: ImageSplit(stacked(names), layout.labels[split]) for split, names in layout.files.items()}
