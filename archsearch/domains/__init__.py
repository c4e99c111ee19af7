"""Data sets of every domain: from wherever examples come to one `Dataset` with three splits."""

from __future__ import annotations

from collections.abc import Callable

from archsearch.data import Dataset, Limits
from archsearch.domains.images import load_digits, load_image_folder, load_npz
from archsearch.domains.images.stored import open_dataset, save_dataset
from archsearch.errors import InvalidRequest
from archsearch.request import DatasetData, DataSpec, DigitsData, ImageFolderData, NpzData

__all__ = ["load", "open_dataset", "save_dataset"]


def load(
    spec: DataSpec, limits: Limits | None = None, *, listener: Callable[[int, int], None] | None = None
) -> Dataset:
    """The data set a request names; raises InvalidRequest for one that only a service holds.

    Args:
        listener: Called with image files read and those there are, now and then.
    """
    match spec:
        case DigitsData():
            return load_digits()
        case NpzData():
            return load_npz(spec.path, limits, duplicates=spec.duplicates)
        case ImageFolderData():
            return load_image_folder(
                spec.path,
                spec.image_size,
                limits,
                fit=spec.fit,
                on_broken=spec.on_broken,
                duplicates=spec.duplicates,
                listener=listener,
            )
        case DatasetData():
            raise InvalidRequest(
                f"data set {spec.id} lives in a service; submit the job there, or give a local npz or image_folder",
                field="data",
            )
