"""What stands beside several students: their teacher, and networks with weights that somebody would take instead."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archsearch import choice, domains, export
from archsearch.data.batches import free_memory
from archsearch.errors import ArchsearchError, InvalidRequest, TeacherError, public
from archsearch.export.card_metadata import teacher_name
from archsearch.failures import NETWORK_FAILURES, reason_of
from archsearch.hardware import Ruler, teacher_activation_bytes
from archsearch.hardware.latency import measure_latency
from archsearch.ledger.ledger import Report
from archsearch.request import Architecture
from archsearch.story.rows import One, interval
from archsearch.story.story import Story, alive
from archsearch.students import HOW, draw, images_of, probe
from archsearch.whole import write_whole

log = logging.getLogger(__name__)

# Most networks with weights in the picture, and the multiply-accumulates that probing them may take: a tenth of the
# students' training, or some seconds.
_MOST, _SHARE, _ALWAYS_MACS = 12, 0.1, 1e12
# What a row of a result has that the comparison has no use for.
_LEFT_OUT = ("formats", "architecture")


def compare(story: Story, each: Sequence[One], told: Report, folder: Path) -> Report:
    """Write `front.json` and `front.svg` into a folder; returns the networks beside the students, as results have them.

    Args:
        told: What the phases have told of the first student, and `students`: the rows of all.
    """
    against, judge = each[0].tier.cost.removesuffix("_ratio"), domains.judge(story.dataset.task)
    reached = f"test_{judge.key}"
    seen = told["student"]["evaluation"]
    cost = _teacher_cost(story, against)
    teacher = {
        # Whose folder it lies in is nobody's business who is shown the picture.
        "name": teacher_name({"teacher": {"name": story.teacher.name}}),
        **cost,
        reached: told["teacher"].get(reached),
        **interval(seen.get("teacher"), judge.key),
    }
    stock, why = _stock(story, each, against)
    found = {
        "against": against,
        "judged_by": judge.describe(),
        "images": len(story.dataset.test),
        "teacher": teacher,
        "students": [{name: v for name, v in row.items() if name not in _LEFT_OUT} for row in told["students"]],
        "stock": stock,
        "stock_measured_by": HOW,
        "stock_left_out": why,
    }
    write_whole(folder / export.FRONT, json.dumps(found, indent=2, sort_keys=True, default=str) + "\n")
    write_whole(folder / export.PICTURE, draw(found))
    kept = {name: found[name] for name in ("against", "stock", "stock_measured_by", "stock_left_out")}
    return {"teacher": {**told["teacher"], **cost}, **kept}


def _teacher_cost(story: Story, against: str) -> Report:
    """What the teacher costs; None of a cost that cannot be told of it."""
    cost, budget, teacher = story.teacher_cost, story.request.budget, story.teacher
    found: Report = {"params": cost.params, "macs": cost.macs}
    if against == "size_bytes" and budget.size_precision != "int8":
        half = 2 if budget.size_precision == "fp16" else 1
        state = teacher.model.state_dict().values()
        found[against] = sum(v.nbytes // (half if v.is_floating_point() else 1) for v in state) or None
    elif against == "peak_activation_bytes":
        found[against] = teacher_activation_bytes(teacher, story.dataset.task, budget.batch)
    elif against == "latency_ms":
        found |= _timed(story, teacher.model, teacher.shape(story.dataset.task), teacher.name)
    return found


def _timed(story: Story, model: Any, shape: Any, name: str) -> Report:
    """Its latency on the budget's device, as results have it; nothing where it cannot be timed there."""
    if story.profile is not None:
        return {}
    budget = story.request.budget
    story.ledger.report({"phase": "exporting"})
    try:
        found = measure_latency(model, shape, budget.device, batch=budget.batch)
    except ArchsearchError as error:
        log.warning("%s cannot be timed: %s", name, error.detail)
        return {}
    except NETWORK_FAILURES as error:
        log.warning("%s cannot be timed: %s", name, reason_of(error))
        return {}
    return {"measured": choice.timed(found)}


def _stock(story: Story, each: Sequence[One], against: str) -> tuple[list[Report], dict[str, str]]:
    """Networks with weights, each with what it costs and what a linear probe of it reaches; and why others are not
    there, by name."""
    dataset, judge = story.dataset, domains.judge(story.dataset.task)
    shelf = story.shelf if len(dataset.train) > 1 and judge.is_share else None
    if shelf is None:
        return [], {}
    space, task = shelf.space(), dataset.task
    left_macs = max(_ALWAYS_MACS, _SHARE * sum(_training_macs(story, one) for one in each))
    found, why = list[Report](), dict(shelf.left_out)
    every = [{space.parameters(task)[0].name: number} for number in range(len(shelf.members))]
    for architecture in sorted(every, key=lambda one: shelf.count(one).macs):
        label = shelf.member(architecture).stored.label
        macs = shelf.count(architecture).macs * images_of(dataset)
        if len(found) == _MOST or macs > left_macs:
            why[label] = "it is left out to save time: smaller ones are there"
            continue
        try:
            cost: Report = {"params": shelf.count(architecture).params, "macs": shelf.count(architecture).macs}
            worth = probe(shelf, architecture, dataset, alive(story.ledger, "exporting"))
            cost |= _stock_cost(story, architecture, against)
        except (InvalidRequest, TeacherError) as error:
            why[label] = public(error.detail)
            continue
        except NETWORK_FAILURES as error:
            free_memory()
            why[label] = reason_of(error)
            continue
        left_macs -= macs
        found.append({"network": label, **cost, **worth})
    return found, why


def _stock_cost(story: Story, architecture: Architecture, against: str) -> Report:
    """What a network with weights costs in the unit of the limits."""
    assert story.shelf is not None
    space, task, budget = story.shelf.space(), story.dataset.task, story.request.budget
    if against == "latency_ms":
        model, _ = story.shelf.stock(architecture)
        return _timed(story, model, domains.of(task).shape(task), story.shelf.member(architecture).stored.label)
    ruler = Ruler(task, size_precision=budget.size_precision, batch=budget.batch, trade=against)
    return {against: getattr(ruler.measure(space, architecture), against)}


def _training_macs(story: Story, one: One) -> float:
    """Multiply-accumulates of a student's training, backward passes included; 0 of one that had none of its own."""
    if one.trained is None or "epochs" not in one.trained:
        return 0.0
    macs: float = 3.0 * one.chosen["macs"] * one.trained["epochs"] * story.dataset.training_examples
    return macs
