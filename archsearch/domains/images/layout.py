"""Which file is an image of which class in which split, told by names alone.

Where images have many labels each, a table tells them: labels_csv.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from archsearch.data.limits import Limits
from archsearch.data.notes import Note
from archsearch.data.task import Labels, unknown
from archsearch.data.unlabelled import check_enough
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
# What holds images that nobody has labelled, beside the splits or the class folders; and what their split is called.
UNLABELLED_FOLDERS = {"unlabelled", "unlabeled"}
UNLABELLED = "unlabelled"
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

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Where the images of every split found lie, and their labels.

    Attributes:
        class_names: In label order; of folders sorted as torchvision does. None where no image has a label.
        files: Names of a split's images; those without labels, beside others with, are one more split, `unlabelled`.
        labels: Of the same images, as in `Split`.
        notes: What of it is not told by names alone, and was decided here.
    """

    class_names: tuple[str, ...]
    files: dict[str, list[str]]
    labels: dict[str, Labels]
    notes: tuple[Note, ...] = ()


def plan(names: Iterable[str], limits: Limits) -> Layout:
    """The layout of relative names, folders ending in `/`; raises DataError or TooLarge naming the file or folder.

    Every image beneath a class folder is of that class, however deep it lies. Folders that hold everything, and
    nothing beside it, are no classes. Splits may be folders around the classes or, in all of them, within. Images
    beneath unlabelled/, which lies beside the splits or the classes, have no labels. None has where unlabelled/ holds
    all of them, or where they lie at the top or in folders of splits, and there is no other folder.
    """
    paths = {name: tuple(name.removesuffix("/").split("/")) for name in names if not is_document(name)}
    images = {name: parts for name, parts in paths.items() if not name.endswith("/")}
    # Zips need not list their folders, and folders may be empty: both kinds are classes.
    folders = {parts for name, parts in paths.items() if name.endswith("/")}
    folders |= {parts[:depth] for parts in images.values() for depth in range(1, len(parts))}
    folders, short = _inside(folders, images)
    if (alone := _no_labels(folders, short)) is not None:
        return _without_labels(alone, limits)
    folders, short, apart = _set_apart(folders, short)
    if _splits_within(folders, short.values()):
        folders = {_outwards(parts) for parts in folders if len(parts) > 1}
        short = {name: _outwards(parts) for name, parts in short.items()}
    roots = _split_roots({parts for parts in folders if len(parts) == 2}, {parts[0] for parts in folders}, limits)
    if roots:
        folders, short = _unwrapped(folders, short)
    found: dict[str, dict[str, list[str]]] = {}
    for parts in sorted(folders):
        if len(parts) == 1 + bool(roots):
            found.setdefault(roots[parts[0]] if roots else "train", {})[parts[-1]] = []
    deeper: dict[str, set[str]] = {}
    for name, parts in sorted(short.items()):
        split, class_name, beneath = _place(name, parts, roots)
        found[split][class_name].append(name)
        if beneath:
            deeper.setdefault(class_name, set()).add(beneath[0])
    _check(found, limits, len(apart))
    _check_no_class(found)
    notes = (*_nested(deeper), *_told_apart(apart, bool(roots)))
    return _layout(found, apart, notes)


def _no_labels(folders: set[Parts], images: Mapping[str, Parts]) -> dict[str, list[str]] | None:
    """Images by their split where it is plain that none has a label, those in unlabelled/ in train; None elsewhere."""
    tops = [parts[0].lower() for parts in folders if len(parts) == 1]
    meant = [SPLIT_FOLDERS.get(top, UNLABELLED if top in UNLABELLED_FOLDERS else None) for top in tops]
    if not images or None in meant or len(set(meant)) < len(meant):
        return None
    # Folders within a split are classes, and unlabelled/train/ is anything.
    deeper = {parts[:2] for parts in folders if len(parts) > 1}
    if any(first.lower() in SPLIT_FOLDERS or second.lower() in SPLIT_FOLDERS for first, second in deeper):
        return None
    if tops and any(len(parts) == 1 for parts in images.values()):
        return None  # of which split they are nobody says
    found: dict[str, list[str]] = {}
    for name, parts in sorted(images.items()):
        split = SPLIT_FOLDERS.get(parts[0].lower(), "train") if len(parts) > 1 else "train"
        found.setdefault(split, []).append(name)
    return found


def _without_labels(files: dict[str, list[str]], limits: Limits) -> Layout:
    """The layout of images without any label; raises DataError or TooLarge."""
    names = [name for of_split in files.values() for name in of_split]
    for name in names:
        check_image_name(name)
    if limits.to_learn_from and "train" not in files:
        raise DataError(f"there is {', '.join(sorted(files))} but no train folder; add train/", field="train/")
    if len(names) > limits.max_examples:
        raise TooLarge(f"{len(names):,} images, at most {limits.max_examples:,} are taken", field="path")
    check_enough(len(names), "image", "path")
    return Layout((), files, {split: unknown(len(of_split)) for split, of_split in files.items()})


def _layout(found: Mapping[str, Mapping[str, list[str]]], apart: list[str], notes: tuple[Note, ...]) -> Layout:
    class_names = tuple(sorted(found["train"] if "train" in found else set().union(*found.values())))
    label = {class_name: i for i, class_name in enumerate(class_names)}
    files = {split: [name for names in by_class.values() for name in names] for split, by_class in found.items()}
    labels: dict[str, Labels] = {
        split: np.repeat([label[class_name] for class_name in by_class], [len(names) for names in by_class.values()])
        for split, by_class in found.items()
    }
    if apart:
        files[UNLABELLED], labels[UNLABELLED] = apart, unknown(len(apart))
    return Layout(class_names, files, labels, notes)


def _nested(deeper: Mapping[str, set[str]]) -> tuple[Note, ...]:
    """What is said of folders within classes: they might have been meant as the classes."""
    if not deeper:
        return ()
    example = min(deeper)
    few = ", ".join(f"{example}/{folder}/" for folder in sorted(deeper[example])[:3])
    return (
        Note(
            "nested_folders",
            f"{len(deeper)} class folders hold folders, whose images count for the class: those of {few} for "
            f"{example!r}. If they are classes of their own, move them up to where {example}/ is",
        ),
    )


def is_document(name: str) -> bool:
    """Whether a name is a file's that describes images and is none."""
    path = PurePosixPath(name.lower())
    return not name.endswith("/") and (path.suffix or path.name) in DOCUMENTS


def _inside(folders: set[Parts], images: Mapping[str, Parts]) -> tuple[set[Parts], dict[str, Parts]]:
    """Folders and images as they are called within the folders that hold everything."""
    skip = _wrapping(folders, images.values())
    return {parts[skip:] for parts in folders if len(parts) > skip}, {n: parts[skip:] for n, parts in images.items()}


def _set_apart(folders: set[Parts], images: Mapping[str, Parts]) -> tuple[set[Parts], dict[str, Parts], list[str]]:
    """Folders and images of the splits, and the names of images without labels.

    Raises DataError where it is unclear which those are.
    """
    called = sorted({parts[0] for parts in folders if parts[0].lower() in UNLABELLED_FOLDERS})
    if not called:
        return folders, dict(images), []
    if len(called) > 1:
        raise DataError(
            f"lies beside {called[0]}/; put all images without labels into one of them", field=f"{called[1]}/"
        )
    for parts in sorted(folders):
        if parts[0] == called[0] and len(parts) == 2 and parts[1].lower() in SPLIT_FOLDERS:
            raise DataError(
                f"is called as a split is, and {called[0]}/ holds images without labels, which are in none; move them "
                f"up, or call {called[0]}/ otherwise if it is a class",
                field=f"{'/'.join(parts)}/",
            )
    apart = sorted(name for name, parts in images.items() if parts[0] == called[0])
    if not apart:
        raise DataError("holds no image; add some or remove the folder", field=f"{called[0]}/")
    for name in apart:
        check_image_name(name)
    left = {name: parts for name, parts in images.items() if parts[0] != called[0]}
    return *_inside({parts for parts in folders if parts[0] != called[0]}, left), apart


def _told_apart(apart: list[str], beside_splits: bool) -> tuple[Note, ...]:
    """What is said of images without labels that lie where a class might."""
    if not apart or beside_splits:
        return ()
    return (
        Note(
            "unlabelled_images",
            f"{len(apart):,} images in {UNLABELLED}/ have no labels: what the teacher answers to them is all that is "
            f"learned of them. If {UNLABELLED} is a class, call its folder otherwise",
        ),
    )


def _check_no_class(found: Mapping[str, Mapping[str, list[str]]]) -> None:
    """Raise DataError where images without labels lie in train/ as a class would, and no other split has that class."""
    for name in found.get("train", {}):
        if name.lower() in UNLABELLED_FOLDERS and not any(name in found[split] for split in found.keys() - {"train"}):
            raise DataError(
                "is called as images without labels are, and lies among the classes: move it beside train/, or call it "
                "otherwise if it is a class",
                field=f"{name}/",
            )


def _wrapping(folders: set[Parts], images: Iterable[Parts]) -> int:
    """How many folders around it hold everything and, below them, folders."""
    skip, paths = 0, [*folders, *images]
    while True:
        tops = {parts[skip] for parts in paths if len(parts) > skip}
        nested = any(len(parts) == skip + 2 for parts in folders)
        if len(tops) != 1 or not nested or tops & {"train", "training", *UNLABELLED_FOLDERS}:
            return skip
        skip += 1


def _splits_within(folders: set[Parts], images: Iterable[Parts]) -> bool:
    """Whether every class folder is divided into splits: cat/train/, cat/test/, dog/train/, …

    Raises DataError where only some are: no image may be trained on that was put aside for the test.
    """
    tops = {parts[0] for parts in folders}
    called = {parts[:2] for parts in folders if len(parts) > 1 and parts[1].lower() in SPLIT_FOLDERS}
    if not called or {top.lower() for top in tops} & SPLIT_FOLDERS.keys():
        return False
    others = {parts[:2] for parts in folders if len(parts) > 1} - called
    beside = {parts[0] for parts in images if len(parts) == 2}
    if others or beside or {parts[0] for parts in called} != tops:
        top, split = min(called)
        raise DataError(
            f"is called as a split is, and not every class folder is divided so; rename it, or {FIX}",
            field=f"{top}/{split}/",
        )
    return True


def _outwards(parts: Parts) -> Parts:
    """cat/train/1.png as train/cat/1.png."""
    return (parts[1], parts[0], *parts[2:]) if len(parts) > 1 else parts


def _unwrapped(folders: set[Parts], images: Mapping[str, Parts]) -> tuple[set[Parts], dict[str, Parts]]:
    """Without one and the same folder around the classes of every split: train/images/cat/ is train/cat/."""
    inner = {parts[1] for parts in (*folders, *images.values()) if len(parts) > 1}
    deeper = {parts[0] for parts in folders if len(parts) > 2}
    # Where a split has images right in it and no folders, it is a class, the only one.
    if len(inner) != 1 or not deeper or {parts[0] for parts in images.values() if len(parts) == 3} - deeper:
        return folders, dict(images)
    short = {name: (parts[0], *parts[2:]) for name, parts in images.items()}
    return {(parts[0], *parts[2:]) for parts in folders}, short


def _split_roots(nested: set[tuple[str, ...]], tops: set[str], limits: Limits) -> dict[str, str]:
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
            f"lies beside {', '.join(sorted(roots))}; only train/, val/, test/ and unlabelled/ may",
            field=f"{strangers[0]}/",
        )
    if limits.to_learn_from and "train" not in roots.values():
        raise DataError(f"there is {', '.join(sorted(roots))} but no train folder; add train/", field="train/")
    if len(set(roots.values())) < len(roots):
        raise DataError(f"two of {', '.join(sorted(roots))} are the same split; merge them", field=f"{max(roots)}/")
    return roots


def _place(name: str, parts: Parts, roots: dict[str, str]) -> tuple[str, str, Parts]:
    """Split and class of a file, and the folders it lies in beneath that; raises DataError for one that has none."""
    check_image_name(name)
    depth = bool(roots)
    if len(parts) < 2 + depth:
        raise DataError(f"lies beside the class folders, so its class is unknown; {FIX}", field=name)
    beneath = parts[1 + depth : -1]
    if roots and any(folder.lower() in SPLIT_FOLDERS for folder in beneath):
        raise DataError(f"lies in a split within a split, so it is unknown which is meant; {FIX}", field=name)
    return (roots[parts[0]] if roots else "train"), parts[depth], beneath


def check_image_name(name: str) -> None:
    """Raises DataError unless the file calls itself an image."""
    if PurePosixPath(name).suffix.lower() not in IMAGES:
        raise DataError("is none of PNG, JPEG, BMP, GIF, WebP, TIFF; convert or remove it", field=name)


def _check(found: dict[str, dict[str, list[str]]], limits: Limits, apart: int) -> None:
    if not limits.to_learn_from:
        _check_count(found, limits, apart)
        return
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
    _check_count(found, limits, apart)


def _check_count(found: Mapping[str, Mapping[str, list[str]]], limits: Limits, apart: int) -> None:
    images = sum(len(files) for by_class in found.values() for files in by_class.values())
    if images + apart > limits.max_examples:
        raise TooLarge(f"{images + apart:,} images, at most {limits.max_examples:,} are taken", field="path")
    if not images:
        raise DataError(f"there is no image in a class folder; {FIX}", field="path")


def _check_held_out(split: str, by_class: dict[str, list[str]], classes: Iterable[str]) -> None:
    if unknown := sorted(by_class.keys() - set(classes)):
        raise DataError(
            f"is a class of the {split} split that has no folder in train/; add one", field=f"{unknown[0]}/"
        )
    if not any(by_class.values()):
        raise DataError(f"the {split} split holds no image; add some or remove its folder", field="path")
