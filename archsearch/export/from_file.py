"""From a photo's file to the name of what it shows: a format by its own settings, against the student in training."""

# N images, H W space, C channels, K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsearch.errors import ExportError
from archsearch.evaluate import Logits
from archsearch.export.format import Answer, Subject, answer_all


@dataclass(frozen=True)
class FromFile:
    """How a format's answers to image files differ from the fp32 student's to the pixels that were written.

    Attributes:
        images: Files read (count).
        max_abs_diff: Largest difference of a logit.
        same_names: Share of files that are given the same names, in percent.
    """

    images: int
    max_abs_diff: float
    same_names: float


def measure_from_file(
    file: str,
    answer: Answer,
    settings: Mapping[str, Any],
    expected_NK: Logits,
    subject: Subject,
    tolerance: float | None,
) -> FromFile | None:
    """Read the subject's photos as the format's own settings say, and compare answers and names.

    Args:
        expected_NK: The student's logits of all of the subject's images.
        tolerance: Largest difference of a logit; None where a format may differ.

    Returns:
        None where images are of a kind that no file holds.

    Raises:
        ExportError: The file tells a photo to be read otherwise, or names answers otherwise.
    """
    from archsearch.domains.images import photo
    from archsearch.domains.images.preprocessing import Preprocessing

    if not subject.photos:
        return None
    ours = Preprocessing.of(subject.task).fields()
    if dict(settings) != ours:
        wrong = sorted(name for name in ours if settings.get(name) != ours[name])
        raise ExportError(f"{file} says otherwise how photos are read ({', '.join(wrong)}); it is not shipped")
    expected = expected_NK[list(subject.photos)]
    found = answer_all(
        answer, np.stack([photo.read(path, settings) for path in subject.photos.values()]), subject.batch
    )
    off = float(np.abs(found - expected).max())
    if tolerance is not None and not off <= tolerance:
        raise ExportError(f"{file} differs from the fp32 student by {off:.3g} in a logit on photos read from files")
    names = [[_names(row, settings) for row in photo.probabilities(NK, settings["kind"])] for NK in (found, expected)]
    same = sum(one == other for one, other in zip(*names, strict=True))
    return FromFile(len(expected), off, 100 * same / len(expected))


def _names(chances_K: Any, settings: Mapping[str, Any]) -> set[str]:
    from archsearch.domains.images import photo

    return {name for name, _ in photo.best(chances_K, settings)}
