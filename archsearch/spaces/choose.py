"""Which spaces a name means: one, the teacher's own, or all that suit the task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsearch.data.task import Task
from archsearch.errors import InvalidRequest, UnknownName
from archsearch.spaces.space import Space, spaces

if TYPE_CHECKING:
    from torch import nn

AUTO, TEACHER, PRETRAINED = "auto", "teacher", "pretrained"
# Names that stand for no registered space: what they mean is for whoever has teacher and weights at hand.
MEANT = (AUTO, TEACHER, PRETRAINED)


def choose(name: str, task: Task, teacher: nn.Module | None, images: int | None = None) -> tuple[Space, ...]:
    """The spaces to search: `auto` means the teacher's own, if it has one, and every family that suits task and data.

    Args:
        images: Training images (count). `auto` leaves out families that take more to learn; None leaves out none.
        teacher: The teacher's network; without one, `auto` means the families alone and `teacher` is refused.
    """
    if name == TEACHER:
        if teacher is None:
            raise InvalidRequest("the teacher's own space takes a teacher that is loaded", field="search.space")
        from archsearch.spaces.teacher import of_teacher

        return (of_teacher(teacher, task),)
    if name == PRETRAINED:
        raise InvalidRequest("networks with weights take a search that has some at hand", field="search.space")
    if name == AUTO:
        return (*own(teacher, task, images), *_learned(suited(task), images))
    check_name(name, task)
    return (spaces.get(name),)


def of_domain(domain: str) -> tuple[Space, ...]:
    """Every registered space of a domain, those to compare with included."""
    return tuple(space for space in spaces if space.domain == domain)


def suited(task: Task) -> tuple[Space, ...]:
    """Every registered space to deploy from that takes the task."""
    return tuple(space for space in spaces if not space.benchmark and space.refusal(task) is None)


def check_name(name: str, task: Task | None = None, *, field: str = "search.space") -> None:
    """Raise UnknownName for what is no space, InvalidRequest for one that refuses the task; needs no torch."""
    if name in MEANT:
        return
    if name not in spaces.names():
        raise UnknownName("space", name, [*MEANT, *spaces.names()], field=field)
    if task is not None:
        spaces.get(name).require(task, field=field)


def own(teacher: nn.Module | None, task: Task, images: int | None = None) -> tuple[Space, ...]:
    """The teacher's own space as `auto` takes it: none where the teacher is of no family known, or the data too few."""
    if teacher is None:
        return ()
    from archsearch.spaces.teacher import of_teacher

    try:
        return _learned((of_teacher(teacher, task),), images)
    except InvalidRequest:  # the families remain
        return ()


def _learned(found: tuple[Space, ...], images: int | None) -> tuple[Space, ...]:
    return tuple(space for space in found if images is None or images >= space.learns_from)
