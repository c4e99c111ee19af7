"""How a teacher's pixels are normalised, where neither its file nor the request says: by what it is right with."""

from __future__ import annotations

from dataclasses import replace

from archsearch import domains
from archsearch.data.metrics import measure
from archsearch.data.notes import Note
from archsearch.domains.images.task import ImageDataset
from archsearch.teachers.resolution import few
from archsearch.teachers.teacher import ImageTeacher

NORMALISATION = "teacher_normalisation"
# What people train with, the plainest first: means and deviations of pixels in 0-1, for three channels or for any.
_USUAL = (
    ("pixels in 0-1", (0.0,), (1.0,)),
    ("pixels in 0-255", (0.0,), (1 / 255,)),
    ("pixels in -1 to 1", (0.5,), (0.5,)),
    ("ImageNet's mean and deviation", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)


def at_best_normalisation(teacher: ImageTeacher, dataset: ImageDataset) -> ImageTeacher:
    """The teacher shown pixels as it is right on most of the selection images, with a note of what was tried.

    Of equals the plainest is taken. A teacher that does not fit the data is returned as it is; its check says so.
    """
    task = dataset.task
    if (teacher.num_classes, teacher.in_chans) != (task.classes, task.in_chans):
        return teacher
    split, judge = few(dataset.selection if len(dataset.selection) else dataset.test), domains.judge(task)
    tried = {
        told: replace(teacher, mean=_spread(mean, teacher.in_chans), std=_spread(std, teacher.in_chans))
        for told, mean, std in (*_USUAL, ("the data's own mean and deviation", task.mean, task.std))
        if len(mean) in (1, teacher.in_chans)
    }
    reached = {told: measure(judge, each.logits, split) for told, each in tried.items()}
    best = next(iter(reached))
    for told, value in reached.items():
        if judge.is_better(value, than=reached[best]):
            best = told
    others = "; ".join(f"{told} {value:.1f}" for told, value in reached.items() if told != best)
    note = Note(
        NORMALISATION,
        f"nothing says how {teacher.name} is shown pixels: with {best} its {judge.name} is "
        f"{reached[best]:.1f} on {len(split)} of the selection split ({others}), so it is asked with that; "
        "teacher.mean, std and scale settle it",
    )
    return replace(tried[best], notes=(*teacher.notes, note))


def _spread(values: tuple[float, ...], in_chans: int) -> tuple[float, ...]:
    return values * in_chans if len(values) == 1 else values
