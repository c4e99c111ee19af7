"""Data sets from image files: a folder, or a zip of one, with a folder for every class or a table of many labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from archsearch.data.assemble import assemble
from archsearch.data.files import Files, open_files
from archsearch.data.images import decode
from archsearch.data.labels_csv import find_table, plan_table
from archsearch.data.layout import Layout, plan
from archsearch.data.limits import Limits
from archsearch.data.splits import complete
from archsearch.data.task import Dataset, Split
from archsearch.errors import DataError, InvalidRequest, TooLarge

# N images, H W space, C channels


def load_image_folder(path: Path, image_size: int | None = None, limits: Limits | None = None) -> Dataset:
    """The data set of class folders, or of train/, val/ and test/ holding class folders, in a folder or a zip.

    Classes are numbered in the sorted order of their folders' names, as torchvision does. Where a labels.csv lies
    beside the images, it tells their labels, any number an image, and folders mean nothing: see `plan_table`.
    `image_size`, in pixels, is the side all images get; without it they have to share one size. Files stored in grey
    give one channel if all are, else everything is RGB. Splits that are missing are held out of train. Hidden files,
    desktop junk and documents are left out; any other file in the wrong place is refused. Raises DataError, TooLarge or
    InvalidRequest whose `field` is the file, the class folder with `/`, or `image_size`.
    """
    limits = limits or Limits()
    if image_size is not None and not limits.min_side <= image_size <= limits.max_side:
        raise InvalidRequest(f"{image_size} is not within {limits.min_side}-{limits.max_side}", field="image_size")
    with open_files(path, limits) as files:
        table = find_table(files.names)
        if table is None:
            layout = plan(files.names, limits)
        else:
            layout = plan_table(table, files.read(table), files.names, limits)
        images = _decode_all(files, layout, image_size, limits)
    splits = _stack(layout, images)
    train, selection, test = complete(splits["train"], splits.get("selection"), splits.get("test"))
    return assemble(train, selection, test, len(layout.class_names), layout.class_names)


def _decode_all(
    files: Files, layout: Layout, image_size: int | None, limits: Limits
) -> dict[str, npt.NDArray[np.uint8]]:
    """The pixels of every file, by name, all of one height and width."""
    names = [name for of_split in layout.files.values() for name in of_split]
    images: dict[str, npt.NDArray[np.uint8]] = {}
    for name in names:
        images[name] = decode(name, files.read(name), image_size, limits)
        height, width, _ = images[names[0]].shape
        if images[name].shape[:2] != (height, width):
            own = "×".join(map(str, images[name].shape[:2]))
            raise DataError(
                f"{name} is {own} pixels, {names[0]} {height}×{width}; set image_size to resize all images alike",
                field="image_size",
            )
        # The first image tells what all will take.
        if (total := len(names) * height * width * 3) > limits.max_bytes:
            raise TooLarge(
                f"{len(names):,} images of {height}×{width} pixels take {total:,} bytes, at most "
                f"{limits.max_bytes:,} are taken; set a smaller image_size",
                field="image_size",
            )
    return images


def _stack(layout: Layout, images: dict[str, npt.NDArray[np.uint8]]) -> dict[str, Split]:
    channels = max(image_HWC.shape[-1] for image_HWC in images.values())
    height, width, _ = next(iter(images.values())).shape
    splits = {}
    for split, names in layout.files.items():
        x_NHWC = np.empty((len(names), height, width, channels), dtype=np.uint8)
        for row, name in enumerate(names):
            # Each image is let go once copied; a grey one among coloured ones fills all channels.
            x_NHWC[row] = images.pop(name)
        splits[split] = Split(x_NHWC, layout.labels[split])
    return splits
