"""What the row of a registered teacher tells, held against the data a job brings; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archsearch import domains
from archsearch.data.task import Task
from archsearch.errors import TeacherError
from archsearch.request import ClassMap
from archsearch.teachers.classes import order_of


def check_facts(facts: Mapping[str, Any], task: Task, given: ClassMap | None) -> None:
    """Raise TeacherError where what is known of a head, or of what the network is shown, does not fit the task.

    Args:
        given: Who is who among the head's outputs, where a request says so.
    """
    num_classes = facts.get("num_classes")
    if num_classes is None:  # nobody has looked yet
        return
    check_classes(facts.get("class_names"), num_classes, task, given, "teacher")
    domains.of(task).check_facts(facts, task, "teacher.id")


def check_classes(
    names: Sequence[str] | None, num_classes: int, task: Task, given: ClassMap | None, field: str
) -> None:
    """Hold what is known of a head against the data: how many classes, what they are called, and who is who."""
    if given is None and num_classes != task.classes:
        raise TeacherError(f"the teacher knows {num_classes} classes, the data has {task.classes}", field=field)
    if names:  # else a worker may find some in the teacher's own configuration
        order_of("the teacher", (tuple(names),), num_classes, task, given, field=field)
