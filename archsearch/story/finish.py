"""The last phase: the student is loaded as a user would, made into every format and held against the test split."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from archsearch import domains, doubt, evaluate, export
from archsearch.data.task import Dataset, Task
from archsearch.device import put_on
from archsearch.distill.train import device_of
from archsearch.hardware import measure
from archsearch.ledger.ledger import Ledger, Report
from archsearch.spaces import Recipe
from archsearch.story.story import Story, Student, alive


def finish(story: Story, chosen: Mapping[str, Any], so_far: Report) -> Report:
    """Examine the student, where one was trained, and hand over all that was made; returns the job's result.

    Args:
        chosen: Space and architecture.
        so_far: What the phases before have told, by name.
    """
    place = dict(so_far.get("student", {})).get("folder")
    result = {**examined(story, chosen, so_far), **closing(story)}
    told = {"request": story.request.model_dump(mode="json"), **result}
    story.ledger.publish(place, told, model_of(story, chosen))
    return result


def examined(story: Story, chosen: Mapping[str, Any], so_far: Report) -> Report:
    """What the phases have told, with what the student, where one was trained, and its teacher are worth."""
    trained = dict(so_far.get("student", {}))
    place = trained.pop("folder", None)
    if place is None:
        return so_far
    student = story.student(chosen["space"], chosen["architecture"])
    seen = _examine(story, student, story.ledger.path(place), trained)
    return {**so_far, "student": seen["student"], "teacher": {**so_far["teacher"], **seen["teacher"]}}


def closing(story: Story) -> Report:
    """What every result ends with: what decides, on which data, and what its own worth is."""
    judged_by = domains.judge(story.dataset.task).describe()
    return {"judged_by": judged_by, "data": _describe(story.dataset), **_doubts(story.ledger)}


def model_of(story: Story, chosen: Mapping[str, Any]) -> Recipe:
    """What a student's library builds it from."""
    student = story.student(chosen["space"], chosen["architecture"])
    return student.space.model(student.architecture, story.dataset.task)


def _examine(story: Story, student: Student, folder: Path, so_far: Report) -> Report:
    """Load the exported folder as a user would, make every format of it, and read the test split once, for them all."""
    started = time.monotonic()
    story.ledger.report({"phase": "exporting"})
    dataset, spec = student.read(story.dataset), story.request.training
    task = dataset.task

    def tell(what: str, done: int, of: int) -> None:
        # The formats are half of the work here, and the test split the other half; 1.0 is the job's own end.
        share = done / of if what == "test" else (done / of) - 1
        story.ledger.report({"phase": "exporting", "making": what, "progress": 0.5 + 0.49 * share})

    made = export.make_formats(folder, task, dataset.selection, listener=tell, alive=alive(story.ledger, "exporting"))
    others: dict[str, evaluate.Network] = {evaluate.TEACHER: story.teacher.logits}
    baseline = so_far.get("baseline")
    if baseline is not None:
        without = domains.of(task).open(story.ledger.folder / "baseline")
        put_on(without, story.device, "student")
        others = {evaluate.NO_TEACHER: evaluate.network(without, task), **others}
    seen = export.examine(folder, made, dataset, task, others, device=story.device, listener=partial(tell, "test"))
    if baseline is not None:
        baseline = {**baseline, **_tested(seen.rows[evaluate.NO_TEACHER], task)}
    cost = measure(student.space, student.architecture, task)
    judgement = _judge(story, student, so_far, seen.rows)
    measured = {
        **so_far,
        **_tested(seen.rows[evaluate.STUDENT], task),
        "baseline": baseline,
        "params": cost.params,
        "macs": cost.macs,
        "architecture": dict(student.architecture),
        "space": student.space.name,
        "device": so_far.get("device") or device_of(spec),
        "formats": export.brief(seen.report),
        "evaluation": {name: evaluate.summary(row) for name, row in seen.rows.items()},
        **({"judged": judgement.summary()} if judgement else {}),
        "export": {"seconds": time.monotonic() - started, "device": story.device},
    }
    teacher = {
        **(_tested(seen.rows[evaluate.TEACHER], task) if evaluate.TEACHER in seen.rows else {}),
        "params": story.teacher_cost.params,
        "macs": story.teacher_cost.macs,
    }
    return {"student": measured, "teacher": teacher}


def _tested(row: evaluate.Row, task: Task) -> Report:
    """What a network is worth on the test split: what the task is judged by, and what is reported beside it."""
    found = evaluate.figures(row)
    return {f"test_{metric.key}": found[metric.key] for metric in domains.metrics(task) if metric.key in found}


def _judge(story: Story, student: Student, trained: Report, rows: Mapping[str, evaluate.Row]) -> doubt.Judgement | None:
    """Hold the student against the others, and warn where it is not a success.

    What is doubted is doubted by intervals of shares: where the task is judged by none, nothing is said.
    """
    if not domains.judge(story.dataset.task).is_share:
        return None
    dataset, space = story.dataset, student.space
    how = doubt.Training(**trained["recipe"], space=space.name, learns_from=space.learns_from)
    found = doubt.judge({name: row.evaluation for name, row in rows.items()}, dataset, how)
    if found.degraded:
        story.ledger.warn(doubt.DEGRADED, found.describe())
    return found


def _doubts(ledger: Ledger) -> Report:
    """What a result says of its own worth.

    `degraded` is True where the student is hardly one; `warnings` are all the user was told.
    """
    told = [dict(warning) for warning in ledger.warnings()]
    return {"degraded": any(warning["code"] == doubt.DEGRADED for warning in told), "warnings": told}


def _describe(dataset: Dataset) -> Report:
    """The data's identity for results and manifests."""
    sizes = {name: len(getattr(dataset, name)) for name in ("train", "selection", "test")}
    if dataset.unlabelled is not None:
        sizes["unlabelled"] = len(dataset.unlabelled)
    return {"sha256": dataset.sha256, "classes": dataset.task.classes, "images": sizes}
