"""Images to measure a network on: taken as they are given, and whole where nobody put some aside."""

# N images, K classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from archsearch.data.labels import prevalence
from archsearch.data.limits import Limits
from archsearch.data.measured import Measured, Part
from archsearch.data.notes import Note
from archsearch.data.renumber import renumbered
from archsearch.data.shots import few_shots
from archsearch.data.task import Kind, is_unknown
from archsearch.domains.images.assemble import fingerprint, settle
from archsearch.domains.images.digits import load_digits
from archsearch.domains.images.duplicates import look
from archsearch.domains.images.image_folder import read_image_folder
from archsearch.domains.images.layout import UNLABELLED
from archsearch.domains.images.npz import read_npz
from archsearch.domains.images.task import ImageDataset, Images, ImageTask
from archsearch.domains.text.spec import TextData
from archsearch.errors import DataError, InvalidRequest
from archsearch.request import DatasetData, DataSpec, DigitsData, ImageFolderData, NpzData, OnDuplicates

Given = Mapping[str, Images]


def load_measured(
    spec: DataSpec,
    known: ImageTask,
    part: Part = "auto",
    *,
    learned_from: str | None = None,
    limits: Limits | None = None,
    listener: Callable[[int, int], None] | None = None,
    cache: Path | None = None,
) -> Measured:
    """The images of a request's data to measure a network of a known task on, labelled in the network's order.

    `auto` is the test split where the data has one. Where it has none all images are taken, for whoever gives data as
    a whole means it; but of the very data the network learned from, those that were held out then, and whatever split
    is asked for is the one it was then.

    Args:
        known: The network's task: its number of classes and, if it has any, their names.
        learned_from: The sha256 of the data the network learned from, where that is known.
        cache: See `load_image_folder`.

    Raises DataError or InvalidRequest where the data is not the network's.
    """
    read, names, notes = _read(spec, limits or Limits(), listener, cache)
    given: Given = {name: split for name, split in read.items() if name != UNLABELLED}
    if all(is_unknown(split.y_N) for split in given.values()):
        raise InvalidRequest(
            "no image has a label to measure answers by; give labelled ones, in classes of the network's names",
            field="--data",
        )
    given, renamed = renumbered(given, names, known)
    apart = read.get(UNLABELLED)
    notes = (*notes, *renamed)
    whole, learned = _wholes(given, apart, known, spec, learned_from)
    if part == "auto" and "test" not in given:
        part = "all" if learned is None else "test"
        if learned is not None:
            detail = (
                f"the network learned from this data: only the {len(learned.test):,} images held out of it are measured"
            )
            notes = (*notes, Note("held_out_measured", detail))
    elif part == "auto":
        part = "test"
    if part == "all":
        return _all(given, known, whole, notes)
    source: Mapping[str, Images] = given
    if learned is not None or part not in given:
        held = learned or whole
        if held is None:
            raise InvalidRequest(
                f"the data has no {part} split, and none can be held out of it; give it one", field="--data"
            )
        source = {"train": held.train, "selection": held.selection, "test": held.test}
    return Measured(_measuring(source[part], given, known, learned or whole), part, notes)


def _all(given: Given, known: ImageTask, whole: ImageDataset | None, notes: tuple[Note, ...]) -> Measured:
    first, *others = given.values()
    together = first.joined(others)
    detail = f"all {len(together):,} images are measured; none are held out"
    if whole is not None:
        detail += f": --split test takes the {len(whole.test):,} that a training would not see"
    found = replace(
        _measuring(together, given, known, whole), sha256=fingerprint(_none(together), _none(together), together)
    )
    return Measured(found, "all", (*notes, Note("all_measured", detail)))


def _measuring(measured: Images, given: Given, known: ImageTask, whole: ImageDataset | None) -> ImageDataset:
    """A data set whose test split is what is measured; what is looked at before is as separate as can be."""
    if whole is not None:
        return replace(whole, test=measured)
    empty = _none(measured)
    height, width, in_chans = measured.sizes
    kind: Kind = "multilabel" if measured.y_N.ndim == 2 else "classification"
    task = replace(known, height=height, width=width, in_chans=in_chans, kind=kind)
    if not task.prevalence:
        task = replace(task, prevalence=prevalence(measured.y_N, known.classes))
    name = fingerprint(given.get("train", empty), given.get("selection", empty), given.get("test", measured))
    return ImageDataset(task, empty, given.get("selection", measured), measured, name)


def _wholes(
    given: Given, apart: Images | None, known: ImageTask, spec: DataSpec, learned_from: str | None
) -> tuple[ImageDataset | None, ImageDataset | None]:
    """The data set a training would make of the images as they are, and the very one the network learned from.

    Either is None where there is none. Who trained may have left out images that are there twice.
    """
    whole = _whole(given, apart, known, spec, "warn")
    if learned_from is None or (whole is not None and whole.sha256 == learned_from):
        return whole, whole if learned_from is not None else None
    dropped = _whole(given, apart, known, spec, "drop")
    return whole, dropped if dropped is not None and dropped.sha256 == learned_from else None


def _whole(
    given: Given, apart: Images | None, known: ImageTask, spec: DataSpec, duplicates: OnDuplicates
) -> ImageDataset | None:
    """The data set a training would make of it; None where there is too little to train on."""
    if "train" not in given:
        return None
    try:
        looked = look(given, duplicates, lambda split, row: f"image {row} of {split}")
        left = looked.splits
        y_train = left["train"].y_N
        if y_train.ndim == 1 and np.bincount(y_train, minlength=known.classes).min() == 0:
            return None
        every = given if apart is None else {**given, UNLABELLED: apart}
        found = settle(every, looked, duplicates, known.classes, known.class_names, known.fit)
    except DataError:
        return None
    return replace(few_shots(found, spec), notes=())


def _read(
    spec: DataSpec, limits: Limits, listener: Callable[[int, int], None] | None, cache: Path | None
) -> tuple[Given, tuple[str, ...], tuple[Note, ...]]:
    """The splits the data has, the names of its classes, and what reading it found."""
    limits = replace(limits, min_per_class=0, to_learn_from=False)
    match spec:
        case DigitsData():
            digits = load_digits()
            splits = {"train": digits.train, "selection": digits.selection, "test": digits.test}
            return splits, digits.task.class_names, ()
        case NpzData():
            return (*read_npz(spec.path, limits), ())
        case ImageFolderData():
            return read_image_folder(
                spec.path,
                spec.image_size,
                limits,
                fit=spec.fit,
                on_broken=spec.on_broken,
                listener=listener,
                cache=cache,
            )
        case TextData():
            raise InvalidRequest("these are texts, and the network was trained on images", field="data")
        case DatasetData():
            raise InvalidRequest(
                f"data set {spec.id} lives in a service; give a local npz or image_folder", field="data"
            )


def _none(like: Images) -> Images:
    return like.take(slice(0, 0))
