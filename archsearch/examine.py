"""What a worker finds out about a registered teacher, in a process of its own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from archsearch import domains
from archsearch.bounded import Tell
from archsearch.device import resolve
from archsearch.domains.domain import Domain
from archsearch.hardware import measure_teacher
from archsearch.request import DigitsData, TeacherSource, TimmTeacher, UploadedFolder
from archsearch.teachers import check_source, check_teacher
from archsearch.teachers.archive import unpack_archive
from archsearch.teachers.hub import require_plain_config

_SOURCES: TypeAdapter[Any] = TypeAdapter(TeacherSource)


def examine(
    tell: Tell,
    *,
    source: dict[str, Any],
    weights: str | None,
    folder: str | None,
    dataset: str | None,
    digits: dict[str, Any] | None,
) -> Any:
    """Load a teacher strictly and, where there is data, measure it; returns columns of its row.

    Args:
        source: As the request names it.
        weights: File of an uploaded teacher, and `folder` where it is unpacked, if it is a zip.
        dataset: Folder of a stored data set; `digits` names the built-in one instead, and both are None without data.
    """
    held = domains.open_dataset(Path(dataset)) if dataset else domains.load(DigitsData(**digits)) if digits else None
    tell({"doing": "loading"})
    asked, at = _SOURCES.validate_python(source), Path(weights) if weights else None
    if isinstance(asked, UploadedFolder) and at is not None and folder is not None:
        unpack_archive(at, Path(folder))
        at = Path(folder)
    domain = _domain(asked, at) if held is None else domains.of(held.task)
    # A look at weights alone needs no GPU, which takes seconds to begin with.
    teacher: Any = domain.load_teacher(asked, at, held, device="cpu" if held is None else resolve("auto"))
    facts = {"domain": domain.name, **domain.facts(teacher)}
    if asked.head == "keep":  # else it has the classes of whatever data it is asked about
        facts["num_classes"] = teacher.num_classes
    if asked.head == "keep" and teacher.namings:
        facts["class_names"] = list(teacher.namings[0])
    known = {"sha256": teacher.sha256, "facts": facts}
    if held is None:
        return known

    def told(done: int, of: int) -> None:
        tell({"doing": "measuring", "done": done, "of": of})

    held = domain.encode(held, teacher, None, told)
    checked = check_teacher(teacher, held, report=told)
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


def _domain(source: Any, at: Path | None) -> Domain:
    """The domain of a teacher that came without data, by its config.json where there is one."""
    if isinstance(source, UploadedFolder) and at is not None:
        return domains.of_config(json.loads((at / "config.json").read_bytes()))
    if isinstance(source, TimmTeacher) and ":" in source.name:
        check_source(source)
        return domains.of_config(require_plain_config(source.name)[1])
    return domains.get("image_classification")


def ask(
    tell: Tell,
    *,
    source: dict[str, Any],
    weights: str,
    dataset: str | None,
    digits: dict[str, Any] | None,
    input_size: Any,
) -> Any:
    """Ask a graph about as many training images as anybody ever asks it about at once: what that takes is its own."""
    from archsearch.zoos.onnx.load import load_onnx
    from archsearch.zoos.onnx.network import AT_ONCE

    held = domains.open_dataset(Path(dataset)) if dataset else domains.load(DigitsData(**(digits or {})))
    asked = _SOURCES.validate_python(source)
    teacher = load_onnx(Path(weights), asked, held.task, input_size, embeds=True, field="teacher").teacher
    teacher.logits(held.train.examples(slice(0, AT_ONCE)))
    return None


def unpack(tell: Tell, *, path: str, folder: str) -> Any:
    """Unpack a teacher's zip, where that was done and is lost."""
    unpack_archive(Path(path), Path(folder))
    return None


def fetch(tell: Tell, *, name: str, domain: str) -> Any:
    """Fetch what a timm name or hub repository stands for, into the cache that loading reads."""
    domains.get(domain).fetch(name)
    return None
