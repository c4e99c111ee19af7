"""What the row of a registered teacher tells, held against the data a job brings; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archsearch import domains
from archsearch.data.task import Task, awaits_teacher
from archsearch.errors import InvalidRequest, TeacherError
from archsearch.request import ClassMap
from archsearch.teachers.classes import order_of
from archsearch.teachers.stand_in import check_stand_in


def check_facts(facts: Mapping[str, Any], task: Task, given: ClassMap | None, *, field: str = "teacher.id") -> None:
    """Raise TeacherError where what is known of a head, or of what the network is shown, does not fit the task.

    Args:
        facts: With the fields of the source that names the teacher.
        given: Who is who among the head's outputs, where a request says so.
        field: Of the request, that names the teacher.
    """
    domain, theirs = domains.of(task), facts.get("domain", task.domain)
    if theirs != task.domain:
        seen = domains.get(theirs).examples
        raise TeacherError(f"the teacher was trained on {seen}, the data are {domain.examples}", field=field)
    if task.truth == "teacher":
        check_stand_in(facts.get("head"), given, many=bool(facts.get("multilabel")), field=field.partition(".")[0])
    # Else nobody has looked yet, or what it knows will be the data's.
    if (num_classes := facts.get("num_classes")) is not None and facts.get("head", "keep") == "keep":
        check_classes(facts.get("class_names"), num_classes, task, given, field.partition(".")[0])
    domain.check_facts(facts, task, field)
    check_map(given, facts.get("head"), field.partition(".")[0])


def check_map(given: ClassMap | None, head: str | None, field: str) -> None:
    """Raise InvalidRequest where classes are named of a head that is fitted to the data, whose classes it has."""
    if given is not None and head not in (None, "keep"):
        raise InvalidRequest(
            f"says which of the teacher's answers the data's classes are, and where its head is {head} it has these "
            "alone; leave it out",
            field=f"{field}.classes",
        )


def check_classes(
    names: Sequence[str] | None, num_classes: int, task: Task, given: ClassMap | None, field: str
) -> None:
    """Hold what is known of a head against the data: how many classes, what they are called, and who is who."""
    if awaits_teacher(task):
        return
    if given is None and num_classes != task.classes:
        raise TeacherError(f"the teacher knows {num_classes} classes, the data has {task.classes}", field=field)
    if names:  # else a worker may find some in the teacher's own configuration
        order_of("the teacher", (tuple(names),), num_classes, task, given, field=field)
