"""At which resolution a teacher is asked, where its config may only say what timm's default is."""

# N images, H W space

from __future__ import annotations

from dataclasses import replace
from typing import Any

from archsearch import domains
from archsearch.data.metrics import measure
from archsearch.data.notes import Note
from archsearch.domains.images.task import ImageDataset, Images
from archsearch.teachers.teacher import ImageTeacher

RESOLUTION = "teacher_resolution"
# Selection images that both resolutions are tried on: enough to tell a network that sees from one that guesses.
_LOOKED_AT = 200
# Percent that the larger resolution has to be better by: it costs its multiple in every step.
_WORTH = 2.0


def at_best_size(teacher: ImageTeacher, dataset: ImageDataset) -> ImageTeacher:
    """The teacher at its config's resolution or at the data's, whichever it knows more at, with a note of which.

    timm's helper keeps the architecture's own resolution, 224 mostly, unless it is told what a network was trained at;
    one trained at 32 would be shown everything enlarged, at fifty times the cost. Only where the config says that
    default, the data is half as large or less and the network takes any size, both are measured.
    """
    task, configured = dataset.task, teacher.input_hw
    own = (task.height, task.width)
    fits = (teacher.num_classes, teacher.in_chans) == (task.classes, task.in_chans)
    if teacher.size_known or configured is None or not fits or 2 * max(own) > min(configured):
        return teacher
    if not _is_default(teacher):
        return teacher
    split = few(dataset.selection if len(dataset.selection) else dataset.test)
    as_it_is = replace(teacher, input_hw=own)
    judge = domains.judge(task)
    try:
        small = measure(judge, as_it_is.logits, split)
    except (RuntimeError, AssertionError, ValueError):  # the images are too small for it
        return teacher
    large = measure(judge, teacher.logits, split)
    taken = teacher if judge.gain(large, over=small) > _WORTH else as_it_is
    at, other = ("enlarged", "as they are") if taken is teacher else ("as they are", "enlarged")
    reached, elsewhere = (large, small) if taken is teacher else (small, large)
    note = Note(
        RESOLUTION,
        f"the config of {teacher.name} says {_told(configured)} pixels, its architecture's default, and the data has "
        f"{_told(own)}: shown images {at} it reaches {reached:.1f} % on {len(split)} of the selection split, {other} "
        f"{elsewhere:.1f} %, so it is asked at {_told(taken.input_hw)}; teacher.input_size settles it",
    )
    return replace(taken, notes=(*taken.notes, note))


def _is_default(teacher: ImageTeacher) -> bool:
    """Whether the resolution is the architecture's own in timm, and the network takes any other."""
    import timm

    config: Any = getattr(teacher.model, "pretrained_cfg", None) or {}
    architecture = config.get("architecture")
    if not architecture or not timm.is_model(architecture) or config.get("fixed_input_size"):
        return False
    default = timm.get_pretrained_cfg(architecture)
    return default is not None and not default.fixed_input_size and tuple(default.input_size[1:]) == teacher.input_hw


def few(split: Images) -> Images:
    """Some of the images, spread over the split."""
    return split if len(split) <= _LOOKED_AT else split.take(slice(0, None, -(-len(split) // _LOOKED_AT)))


def _told(hw: tuple[int, int] | None) -> str:
    return "×".join(map(str, hw or ()))
