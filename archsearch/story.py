"""What a job does, from request to student, without knowing where its progress is kept.

    validate ▸ find the winner ▸ distil it ▸ evaluate and export

Every phase returns plain JSON. A `Ledger` keeps trials and progress: SQL rows for the service, files for the library.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from archsearch import export
from archsearch.data.metrics import accuracy
from archsearch.data.task import Dataset
from archsearch.distill.loss import losses
from archsearch.distill.train import check_distill, logits, train
from archsearch.errors import InvalidRequest, SearchError
from archsearch.hardware import fits, limits, measure, measure_teacher, require_possible
from archsearch.request import Architecture, JobRequest
from archsearch.search import Trial, check_search, prepare, search, winner
from archsearch.spaces import Cost, Space, spaces
from archsearch.teachers import Teacher, check_teacher

if TYPE_CHECKING:
    from torch import nn

Report = dict[str, Any]


class Ledger(Protocol):
    """Where a running job writes down what happened. Any call may raise Cancelled."""

    folder: Path
    # Where the teacher's evidence is kept for later jobs.
    cache: Path

    def trials(self) -> Sequence[Trial]:
        """Trials of earlier attempts, in order."""

    def add(self, trial: Trial, report: Report) -> None:
        """Keep a trial for good before the next one starts."""

    def report(self, report: Report) -> None:
        """Say where the job stands."""


@dataclass(frozen=True)
class Story:
    """A request with its teacher and data at hand."""

    request: JobRequest
    teacher: Teacher
    dataset: Dataset
    ledger: Ledger

    @cached_property
    def teacher_cost(self) -> Cost:
        return measure_teacher(self.teacher, self.dataset.task)

    @property
    def limit(self) -> Cost:
        return limits(self.request.budget, self.teacher_cost)

    @property
    def space(self) -> Space:
        name, field = self.request.search.space, "search.space"
        if self.request.student is not None:
            name, field = self.request.student.space, "student.space"
        return spaces.get(name, field=field)


def validate(story: Story) -> Report:
    """Check everything that can be wrong before anything is spent; returns what the teacher turned out to be."""
    story.ledger.report({"phase": "validating"})
    check_request(story.request, story.dataset)
    measured = check_teacher(story.teacher, story.dataset)
    if story.request.kind != "distill":
        require_possible(story.space, story.dataset.task, story.limit, story.request.budget)
    cost = story.teacher_cost
    return {
        "name": story.teacher.name,
        "sha256": story.teacher.sha256,
        "selection_acc": measured,
        "params": cost.params,
        "macs": cost.macs,
    }


def check_request(request: JobRequest, dataset: Dataset | Any) -> None:
    """What names and sizes alone can tell to be wrong; needs no torch.

    Args:
        dataset: Anything with a `task` and a `train` split that has a length.
    """
    check_names(request)
    images = len(dataset.train)
    if request.kind != "search":
        check_distill(request.distill, images)
    if request.student is not None:
        spaces.get(request.student.space).check(request.student.architecture, dataset.task)
        return
    if request.search.batch_size > images:
        raise InvalidRequest(
            f"{request.search.batch_size} is more than the {images} training images there are",
            field="search.batch_size",
        )


def check_names(request: JobRequest) -> None:
    """Raise UnknownName for a space, voter or method nobody registered; needs no data."""
    losses.get(request.distill.method, field="distill.method")
    if request.student is not None:
        spaces.get(request.student.space, field="student.space")
    check_search(request.search)


def find(story: Story) -> Report:
    """Search until the request's count; returns the winner and why it won."""
    spec, ledger = story.request.search, story.ledger
    bench = prepare(spec, story.teacher, story.dataset, cache=ledger.cache)
    trials = list(ledger.trials())
    ledger.report(_search_report(trials, spec.candidates, None))
    started, first = time.monotonic(), len(trials)
    for trial in search(spec, bench, story.limit, done=list(trials)):
        trials.append(trial)
        pace = (time.monotonic() - started) / (len(trials) - first)
        ledger.add(trial, _search_report(trials, spec.candidates, pace))
    best = winner(trials)
    if best is None:
        reasons = {trial.reason for trial in trials}
        raise SearchError(
            f"none of {len(trials)} candidates could be scored: {'; '.join(map(str, sorted(reasons, key=str)))}"
        )
    return {
        "candidates_scored": sum(trial.state == "scored" for trial in trials),
        "candidates_failed": sum(trial.state == "failed" for trial in trials),
        # Counted, not promised: the budget is checked against what was really scored.
        "infeasible_scored": sum(trial.state == "scored" and not fits(trial.cost, story.limit) for trial in trials),
        "exhausted": len(trials) < spec.candidates and spec.time_limit_s is None,
        "limit": asdict(story.limit),
        "winner": {
            "space": story.space.name,
            "number": best.number,
            "architecture": dict(best.architecture),
            "score": best.score,
            "votes": dict(best.votes),
            "proxies": dict(best.proxies),
            "params": best.cost.params,
            "macs": best.cost.macs,
        },
    }


def distil(story: Story, architecture: Architecture, folder: Path) -> Report:
    """Train one architecture to the end and save it as a folder timm loads.

    Args:
        folder: Where the student goes; the checkpoint lies in the ledger's folder, so that any attempt finds it.
    """
    spec, task = story.request.distill, story.dataset.task
    student = _fresh(story, architecture)
    last = None
    for last in train(
        student,
        story.dataset,
        spec,
        teacher=story.teacher,
        optimizer=story.space.optimizer,
        checkpoint_path=story.ledger.folder / "checkpoint.safetensors",
    ):
        story.ledger.report({"phase": "distilling", **asdict(last), "progress": last.step / last.steps})
    export.save_student(student, task, folder)
    return {
        "method": spec.method,
        "epochs": spec.epochs,
        # The last epoch's, as it is; picking the best epoch would flatter it.
        "selection_acc": accuracy(lambda x: logits(student, task, x), story.dataset.selection),
    }


def finish(story: Story, architecture: Architecture, folder: Path, so_far: Report) -> Report:
    """Load the exported folder as a user would, read the test split once, and write the manifest."""
    story.ledger.report({"phase": "exporting"})
    task, dataset = story.dataset.task, story.dataset
    student = export.load_student(folder)
    cost = measure(story.space, architecture, task)
    measured = {
        **so_far,
        "test_acc": accuracy(lambda x: logits(student, task, x), dataset.test),
        "params": cost.params,
        "macs": cost.macs,
        "architecture": dict(architecture),
        "space": story.space.name,
    }
    teacher = {
        "test_acc": accuracy(story.teacher.logits, dataset.test),
        "params": story.teacher_cost.params,
        "macs": story.teacher_cost.macs,
    }
    return {"student": measured, "teacher": teacher}


def describe_data(dataset: Dataset) -> Report:
    """The data's identity for results and manifests."""
    sizes = {name: len(getattr(dataset, name)) for name in ("train", "selection", "test")}
    return {"sha256": dataset.sha256, "classes": dataset.task.classes, "images": sizes}


def _fresh(story: Story, architecture: Architecture) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(story.request.distill.seed)
        return story.space.build(architecture, story.dataset.task)


def _search_report(trials: Sequence[Trial], total: int, pace_s: float | None) -> Report:
    best = winner(trials)
    return {
        "phase": "searching",
        "scored": len(trials),
        "candidates": total,
        "progress": len(trials) / total,
        "best_score": best.score if best else None,
        "best_params": best.cost.params if best else None,
        "best_architecture": dict(best.architecture) if best else None,
        "eta_s": None if pace_s is None else pace_s * (total - len(trials)),
    }
