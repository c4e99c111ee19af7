"""What a worker finds out about a registered teacher, in a process of its own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from archsearch import domains
from archsearch.bounded import Tell
from archsearch.hardware import measure_teacher
from archsearch.request import DigitsData, TimmTeacher, UploadedTeacher
from archsearch.teachers import check_teacher, load_teacher

_SOURCES: TypeAdapter[TimmTeacher | UploadedTeacher] = TypeAdapter(TimmTeacher | UploadedTeacher)


def examine(
    tell: Tell, *, source: dict[str, Any], weights: str | None, dataset: str | None, digits: dict[str, Any] | None
) -> Any:
    """Load a teacher strictly and, where there is data, measure it; returns columns of its row.

    Args:
        source: As the request names it.
        weights: File of an uploaded teacher.
        dataset: Folder of a stored data set; `digits` names the built-in one instead, and both are None without data.
    """
    held = domains.open_dataset(Path(dataset)) if dataset else domains.load(DigitsData(**digits)) if digits else None
    tell({"doing": "loading"})
    asked = _SOURCES.validate_python(source)
    teacher: Any
    if held is None:
        teacher = load_teacher(asked, Path(weights) if weights else None)
        facts = {"num_classes": teacher.num_classes, "in_chans": teacher.in_chans}
    else:
        domain = domains.of(held.task)
        teacher = domain.load_teacher(asked, Path(weights) if weights else None, held)
        facts = {"num_classes": teacher.num_classes, **domain.facts(teacher)}
        held = domain.encode(held, teacher, None)
    if teacher.namings:
        facts["class_names"] = list(teacher.namings[0])
    known = {"sha256": teacher.sha256, "facts": facts}
    if held is None:
        return known
    checked = check_teacher(teacher, held, report=lambda done, of: tell({"doing": "measuring", "done": done, "of": of}))
    cost = measure_teacher(teacher, held.task)
    notes = [asdict(note) for note in (*teacher.notes, *checked.notes)]
    measured = {
        "params": cost.params,
        "macs": cost.macs,
        "measured_on": domain.size(held.task),
        "selection_acc": checked.measured,
        "judged_by": domains.judge(held.task).describe(),
    }
    return {**known, "facts": {**facts, **measured}, "notes": notes or None}


def fetch(tell: Tell, *, name: str) -> Any:
    """Fetch what a timm name or hub repository stands for, into the cache that loading reads."""
    from archsearch.teachers.hub import check_stock, require_plain_config, require_safetensors

    if ":" not in name:
        check_stock(name, None)
    else:
        require_safetensors(name, name.partition(":")[2])
        require_plain_config(name)
    return None
