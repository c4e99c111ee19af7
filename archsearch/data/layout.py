"""Which file is an image of which class in which split, told by names alone.

Where images have many labels each, a table tells them: labels_csv.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from archsearch.data.limits import Limits
from archsearch.data.task import Labels
from archsearch.errors import DataError, TooLarge

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "selection",
    "valid": "selection",
    "validation": "selection",
    "selection": "selection",
    "test": "test",
    "testing": "test",
}
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
# What people put beside images to describe them.
DOCUMENTS = {
    "readme",
    "license",
    "licence",
    ".txt",
    ".md",
    ".csv",
    ".tsv",
    ".json",
    ".xml",
    ".yaml",
    ".yml",
    ".html",
    ".pdf",
    ".db",
    ".ini",
}
FIX = (
    "put each image into the folder of its class: cat/1.png, dog/1.png, or train/cat/1.png and test/cat/2.png; where "
    "images have many labels, name them in a labels.csv beside the images"
)


@dataclass(frozen=True)
class Layout:
    """Where the images of every split found lie, and their labels.

    Attributes:
        class_names: In label order; of folders sorted as torchvision does.
        files: Names of a split's images.
        labels: Of the same images, as in `Split`.
    """

    class_names: tuple[str, ...]
    files: dict[str, list[str]]
    labels: dict[str, Labels]


def plan(names: Iterable[str], limits: Limits) -> Layout:
    """The layout of relative names, folders ending in `/`; raises DataError or TooLarge naming the file or folder."""
    paths = {name: tuple(name.removesuffix("/").split("/")) for name in names if not is_document(name)}
    folders = {parts for name, parts in paths.items() if name.endswith("/")}
    images = {name: parts for name, parts in paths.items() if not name.endswith("/")}
    # Zips need not list their folders, and folders may be empty: both kinds are classes.
    folders |= {parts[:depth] for parts in images.values() for depth in range(1, len(parts))}
    skip = _wrapping(folders, images.values())
    folders = {parts[skip:] for parts in folders if len(parts) > skip}
    roots = _split_roots({parts for parts in folders if len(parts) == 2}, {parts[0] for parts in folders})
    found: dict[str, dict[str, list[str]]] = {}
    for parts in sorted(folders):
        if len(parts) == 1 + bool(roots):
            found.setdefault(roots[parts[0]] if roots else "train", {})[parts[-1]] = []
    for name, parts in sorted(images.items()):
        split, class_name = _place(name, parts[skip:], roots)
        found[split][class_name].append(name)
    _check(found, limits)
    class_names = tuple(sorted(found["train"]))
    label = {class_name: i for i, class_name in enumerate(class_names)}
    files = {split: [name for names in by_class.values() for name in names] for split, by_class in found.items()}
    labels: dict[str, Labels] = {
        split: np.repeat([label[class_name] for class_name in by_class], [len(names) for names in by_class.values()])
        for split, by_class in found.items()
    }
    return Layout(class_names, files, labels)


def is_document(name: str) -> bool:
    """Whether a name is a file's that describes images and is none."""
    path = PurePosixPath(name.lower())
    return not name.endswith("/") and (path.suffix or path.name) in DOCUMENTS


def _wrapping(folders: set[tuple[str, ...]], images: Iterable[tuple[str, ...]]) -> int:
    """1 where a single top folder holds everything and, below it, folders; else 0."""
    tops = {parts[0] for parts in (*folders, *images)}
    return int(len(tops) == 1 and any(len(parts) == 2 for parts in folders) and not tops & {"train", "training"})


def _split_roots(nested: set[tuple[str, ...]], tops: set[str]) -> dict[str, str]:
    """The split of each top folder, or nothing where the top folders are the classes.

    A class may be called `train` (beside car and bus): only folders within it make it a split.
    """
    roots = {top: SPLIT_FOLDERS[top.lower()] for top in tops if top.lower() in SPLIT_FOLDERS}
    if not {parts[0] for parts in nested} & roots.keys():
        if roots and roots.keys() == tops:
            raise DataError(f"holds images but no class folders; {FIX}", field=f"{min(roots)}/")
        return {}
    if strangers := sorted(tops - roots.keys()):
        raise DataError(
            f"lies beside {', '.join(sorted(roots))}; only train/, val/ and test/ may", field=f"{strangers[0]}/"
        )
    if "train" not in roots.values():
        raise DataError(f"there is {', '.join(sorted(roots))} but no train folder; add train/", field="train/")
    if len(set(roots.values())) < len(roots):
        raise DataError(f"two of {', '.join(sorted(roots))} are the same split; merge them", field=f"{max(roots)}/")
    return roots


def _place(name: str, parts: tuple[str, ...], roots: dict[str, str]) -> tuple[str, str]:
    """Split and class of a file; raises DataError for one that lies elsewhere or is no image."""
    check_image_name(name)
    if len(parts) < 2 + bool(roots):
        raise DataError(f"lies beside the class folders, so its class is unknown; {FIX}", field=name)
    if len(parts) > 2 + bool(roots):
        raise DataError(f"lies deeper than a class folder; {FIX}", field=name)
    return (roots[parts[0]] if roots else "train"), parts[-2]


def check_image_name(name: str) -> None:
    """Raises DataError unless the file calls itself an image."""
    if PurePosixPath(name).suffix.lower() not in IMAGES:
        raise DataError("is none of PNG, JPEG, BMP, GIF, WebP, TIFF; convert or remove it", field=name)


def _check(found: dict[str, dict[str, list[str]]], limits: Limits) -> None:
    classes = found.get("train", {})
    if len(classes) < 2:
        held = f"only one class folder, {min(classes)}/" if classes else "no class folder"
        raise DataError(f"there is {held}; two or more are needed to tell apart: {FIX}", field="path")
    if len(classes) > limits.max_classes:
        raise TooLarge(f"{len(classes):,} class folders, at most {limits.max_classes:,} are taken", field="path")
    for class_name, files in sorted(classes.items()):
        if len(files) < limits.min_per_class:
            raise DataError(
                f"class {class_name!r} has {len(files)} training image(s), {limits.min_per_class} or more are needed; "
                "add images or remove the folder",
                field=f"{class_name}/",
            )
    for split in found.keys() - {"train"}:
        _check_held_out(split, found[split], classes.keys())
    images = sum(len(files) for by_class in found.values() for files in by_class.values())
    if images > limits.max_images:
        raise TooLarge(f"{images:,} images, at most {limits.max_images:,} are taken", field="path")


def _check_held_out(split: str, by_class: dict[str, list[str]], classes: Iterable[str]) -> None:
    if unknown := sorted(by_class.keys() - set(classes)):
        raise DataError(
            f"is a class of the {split} split that has no folder in train/; add one", field=f"{unknown[0]}/"
        )
    if not any(by_class.values()):
        raise DataError(f"the {split} split holds no image; add some or remove its folder", field="path")
