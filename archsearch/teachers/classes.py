"""Whose output is whose class: the names a teacher's head carries, held against the data's.

Only names are looked at here, so a server can compare them without torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archsearch.data.notes import Note
from archsearch.data.task import Task
from archsearch.errors import TeacherError
from archsearch.request import ClassMap
from archsearch.teacher_config import MOST_CLASSES

# A head's names as one list a way of naming them: short ones first, then descriptions.
Namings = tuple[tuple[str, ...], ...]
# For every class of the data, in its order, the teacher's output that means it.
Order = tuple[int, ...]

REORDERED = "classes_reordered"
# What transformers writes where nobody gave names.
_PLACEHOLDER = re.compile(r"LABEL_\d+")
_SHOWN = 3
_LONGEST_NUMBER = len(str(MOST_CLASSES))


def namings_of(config: Any, num_classes: int) -> Namings:
    """The names in a config.json of timm's or transformers', or in timm's `pretrained_cfg`; lists of K only."""
    if not isinstance(config, Mapping):
        return ()
    sources = [config, *(each for key in ("pretrained_cfg", "config") if isinstance(each := config.get(key), Mapping))]
    found: list[tuple[str, ...]] = []
    for key in ("label_names", "labels", "id2label", "label_descriptions"):
        for source in sources:
            names = _listed(source.get(key), found[0] if found else ())
            if len(names) == num_classes == len(set(names)) and not all(map(_PLACEHOLDER.fullmatch, names)):
                found.append(names)
    return tuple(dict.fromkeys(found))


def order_of(
    teacher: str,
    namings: Namings,
    num_classes: int,
    task: Task,
    given: ClassMap | None = None,
    *,
    field: str = "teacher",
) -> tuple[Order | None, tuple[Note, ...]]:
    """The order the teacher's outputs have to be put in, None for none, and what is to be said of it.

    Args:
        teacher: Its name, for messages.
        given: The request's own word, `teacher.classes`, which is not questioned.
        field: Of the request, for errors.

    Raises TeacherError where both sides name their classes and differently, or where `given` names what is not there.
    """
    if given is not None:
        return _as_given(namings, num_classes, task, given, f"{field}.classes")
    known, names = [each for each in namings if not _only_numbers(each)] or list(namings), task.class_names
    if not known or not names:
        return None, ()
    for same in (str, _folded):
        for naming in known:
            if (order := _matched(naming, names, same)) is not None:
                return _told(teacher, naming, names, order, same)
    if num_classes != len(names) or all(map(_only_numbers, known)):
        return None, ()  # the number of classes is another check's; and numbers are no names
    raise TeacherError(_different(teacher, known[0], names), field=field)


def natural_order(names: Sequence[str]) -> list[int]:
    """Positions of the names as people count them: 1, 2, 10, where code points say 1, 10, 2."""
    return sorted(range(len(names)), key=lambda k: [_part(part) for part in re.split(r"(\d+)", names[k])])


def ranks(positions: Sequence[int]) -> Order:
    """For every name its place in a listing of positions: the inverse of that permutation."""
    found = [0] * len(positions)
    for place, k in enumerate(positions):
        found[k] = place
    return tuple(found)


def _as_given(
    namings: Namings, num_classes: int, task: Task, given: ClassMap, field: str
) -> tuple[Order | None, tuple[Note, ...]]:
    names = task.class_names or tuple(map(str, range(task.classes)))
    if given == "as_is":
        return None, ()
    if isinstance(given, str):
        if num_classes != len(names):
            raise TeacherError(f"{given} orders {len(names)} classes, the teacher has {num_classes}", field=field)
        listing = natural_order(names) if given == "natural" else sorted(range(len(names)), key=lambda k: names[k])
        return _unless_same(ranks(listing), num_classes), ()
    if strangers := sorted(given.keys() - set(names)):
        raise TeacherError(f"{strangers[0]!r} is no class of the data: {_some(names)}", field=field)
    known = {name: k for naming in reversed(namings) for k, name in reversed(list(enumerate(naming)))}
    order = tuple(_output(given.get(name, name), known, namings, num_classes, f"{field}.{name}") for name in names)
    named: dict[int, str] = {}
    for name, k in zip(names, order, strict=True):
        if (other := named.setdefault(k, name)) != name:
            raise TeacherError(f"{other!r} and {name!r} are both given the teacher's output {k}", field=field)
    return _unless_same(order, num_classes), ()


def _output(wanted: str | int, known: Mapping[str, int], namings: Namings, num_classes: int, field: str) -> int:
    """The number of the output a map's value names; `known` has those of all names in `namings`."""
    if isinstance(wanted, int):
        if not 0 <= wanted < num_classes:
            raise TeacherError(f"{wanted} is none of the teacher's outputs, 0 to {num_classes - 1}", field=field)
        return wanted
    if wanted in known:
        return known[wanted]
    has = f"it has {_some(namings[0])}" if namings else "its classes have no names: give the output's number"
    raise TeacherError(f"the teacher knows no class {wanted!r}; {has}", field=field)


def _matched(naming: Sequence[str], names: Sequence[str], same: Callable[[str], str]) -> Order | None:
    """Where each of the data's names stands among the teacher's; None unless every one has exactly one counterpart."""
    theirs = {same(name): k for k, name in enumerate(naming)}
    mine = [same(name) for name in names]
    if len(theirs) != len(naming) or len(set(mine)) != len(mine) or theirs.keys() != set(mine):
        return None
    return tuple(theirs[name] for name in mine)


def _told(
    teacher: str, naming: Sequence[str], names: Sequence[str], order: Order, same: Callable[[str], str]
) -> tuple[Order | None, tuple[Note, ...]]:
    notes = []
    if same is not str:
        k = next(k for k, name in enumerate(names) if naming[order[k]] != name)
        spelt = f"only the spelling differs: the data's {names[k]!r} is taken for {naming[order[k]]!r} of {teacher}, …"
        notes.append(Note("class_names_spelt_otherwise", spelt))
    if (moved := _unless_same(order, len(naming))) is not None:
        count = sum(k != place for place, k in enumerate(order))
        k = next(k for k, place in enumerate(order) if k != place)
        detail = (
            f"{teacher} has the data's classes in another order: its answers for {count} of {len(order)} classes were "
            f"put in the data's order by name (class {k} is {names[k]!r}, which is its output {order[k]})"
        )
        notes.append(Note(REORDERED, detail))
        return moved, tuple(notes)
    return None, tuple(notes)


def _different(teacher: str, naming: Sequence[str], names: Sequence[str]) -> str:
    theirs = set(naming)
    lacking = [name for name in names if name not in theirs]
    pairs = [
        f"class {k} is {mine!r} in the data and {theirs!r} to the teacher"
        for k, (mine, theirs) in enumerate(zip(names, naming, strict=True))
        if mine != theirs
    ]
    more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    return (
        f"{teacher} and the data name their classes differently: {'; '.join(pairs[:_SHOWN])}{more}. Name the data's "
        f"classes as the teacher does, or say which is which: classes: {{{lacking[0]!r}: NAME_OR_NUMBER_OF_ITS_OUTPUT}}"
    )


def _unless_same(order: Order, num_classes: int) -> Order | None:
    return None if order == tuple(range(num_classes)) else order


def _only_numbers(naming: Sequence[str]) -> bool:
    return tuple(naming) == tuple(map(str, range(len(naming))))


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (" …" if len(names) > 8 else "")


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip()).casefold()


def _part(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isdecimal() else (1, 0, text)


def is_place(key: Any) -> bool:
    """Whether it is the number of an output, as files spell them; one of thousands of digits counts none."""
    return str(key).isdecimal() and len(str(key)) <= _LONGEST_NUMBER


def _listed(value: Any, names: Sequence[str]) -> tuple[str, ...]:
    """A list of names from a list, from a mapping of numbers to names, or from one of names to descriptions."""
    if isinstance(value, Mapping):
        if value and all(is_place(key) for key in value):
            return tuple(str(value[key]) for key in sorted(value, key=lambda key: int(str(key))))
        return tuple(str(value[name]) for name in names) if set(names) == value.keys() else ()
    return tuple(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else ()
