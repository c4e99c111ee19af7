"""What a job does, from request to student, without knowing where its progress is kept.

    validate ▸ find the winner ▸ distil it ▸ evaluate and export

Every phase returns plain JSON. A `Ledger` keeps trials and progress: SQL rows for the service, files for the library.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from archsearch import choice, export
from archsearch.data.metrics import accuracy
from archsearch.data.task import Dataset, Task
from archsearch.distill.loss import losses
from archsearch.distill.train import check_distill, logits, train
from archsearch.errors import InvalidRequest, SearchError
from archsearch.hardware import (
    Limits,
    Ruler,
    fits,
    limits,
    measure,
    measure_teacher,
    require_possible,
)
from archsearch.hardware.profile import Profile
from archsearch.request import Architecture, JobRequest
from archsearch.search import Trial, check_search, prepare, search, winner
from archsearch.spaces import Cost, Space, check_name, choose, spaces
from archsearch.teachers import Teacher, check_teacher

if TYPE_CHECKING:
    from torch import nn

Report = dict[str, Any]

# Members of a space counted on the meta device before a limit on activations is called impossible.
_COUNTED = 60


class Ledger(Protocol):
    """Where a running job writes down what happened. Any call may raise Cancelled."""

    folder: Path
    # Where the teacher's evidence and devices' latencies are kept for later jobs.
    cache: Path

    def trials(self) -> Sequence[Trial]:
        """Trials of earlier attempts, in order."""

    def add(self, trial: Trial, report: Report) -> None:
        """Keep a trial for good before the next one starts."""

    def report(self, report: Report) -> None:
        """Say where the job stands."""


@dataclass(frozen=True)
class Student:
    """The architecture a job ends with: the winner of its search, or the one the request names."""

    space: Space
    architecture: Architecture


@dataclass(frozen=True)
class Story:
    """A request with its teacher and data at hand.

    Attributes:
        profile: Latencies measured on another machine, where the budget names such a device.
    """

    request: JobRequest
    teacher: Teacher
    dataset: Dataset
    ledger: Ledger
    profile: Profile | None = None

    @cached_property
    def teacher_cost(self) -> Cost:
        return measure_teacher(self.teacher, self.dataset.task)

    @property
    def limits(self) -> Limits:
        return limits(self.request.budget, self.teacher_cost)

    @cached_property
    def spaces(self) -> tuple[Space, ...]:
        """The spaces that are searched together: those of the request that some member within the budget is in."""
        request, task = self.request, self.dataset.task
        named = choose(request.search.space, task, self.teacher.model, len(self.dataset.train))
        if choice.wants_latency(request):
            named = choice.timed_spaces(request, named, task, self.profile)
        return possible(request, named, task, self.limits, exactly=True)

    def student(self, space: str, architecture: Mapping[str, int]) -> Student:
        """A student of this job by the name of its space."""
        (found,) = choose(space, self.dataset.task, self.teacher.model)
        return Student(found, dict(architecture))


def validate(story: Story) -> Report:
    """Check everything that can be wrong before anything is spent; returns what the teacher turned out to be."""
    story.ledger.report({"phase": "validating"})
    check_request(story.request, story.dataset)
    measured = check_teacher(story.teacher, story.dataset)
    if story.request.kind == "distill":
        named = story.request.student
        if named is not None and named.space is not None and named.architecture is not None:
            student = story.student(named.space, named.architecture)
            student.space.check(student.architecture, story.dataset.task)
    else:
        _ = story.spaces  # an impossible budget is refused here
        if choice.wants_latency(story.request) and story.profile is None:
            choice.check_device(story.request.budget)
    cost = story.teacher_cost
    return {
        "name": story.teacher.name,
        "sha256": story.teacher.sha256,
        "selection_acc": measured,
        "params": cost.params,
        "macs": cost.macs,
    }


def possible(
    request: JobRequest, spaces: Sequence[Space], task: Task, limits: Limits, *, exactly: bool = False
) -> tuple[Space, ...]:
    """Those spaces that have a member within the budget; raises ImpossibleBudget when none has.

    Latency is left out: it takes a device to tell, and is looked at once its predictor is there.

    Args:
        exactly: Count activations too, which takes torch; the closed form knows only how many there are at least.
    """
    budget = request.budget
    countable = replace(limits, latency_ms=None)
    ruler = Ruler(task, countable, budget.size_precision, budget.batch)
    able = require_possible(spaces, task, ruler.estimate, countable, budget)
    if exactly and countable.peak_activation_bytes is not None:
        able = require_possible(able, task, ruler.measure, countable, budget, most=_COUNTED)
    return able


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
        named = request.student
        if named.space is not None and named.architecture is not None and named.space != "teacher":
            spaces.get(named.space, field="student.space").check(named.architecture, dataset.task)
        return
    if request.search.space not in ("auto", "teacher"):
        choose(request.search.space, dataset.task, None)
    if request.search.batch_size > images:
        raise InvalidRequest(
            f"{request.search.batch_size} is more than the {images} training images there are",
            field="search.batch_size",
        )


def check_names(request: JobRequest) -> None:
    """Raise UnknownName for a space, voter or method nobody registered; needs no data."""
    losses.get(request.distill.method, field="distill.method")
    if request.student is not None:
        if request.student.space is not None:
            check_name(request.student.space, field="student.space")
        return
    check_name(request.search.space)
    check_search(request.search)


def find(story: Story) -> Report:
    """Search until the request's count; returns the winner and why it won."""
    spec, ledger, task = story.request.search, story.ledger, story.dataset.task
    ruler, searched = choice.measured_by(
        story.request,
        story.spaces,
        task,
        story.limits,
        profile=story.profile,
        folder=ledger.folder,
        cache=ledger.cache,
        report=ledger.report,
    )
    bench = prepare(spec, story.teacher, story.dataset, cache=ledger.cache)
    trials = list(ledger.trials())
    ledger.report(_search_report(trials, spec.candidates, None))
    started, first, stop = time.monotonic(), len(trials), None
    running = search(spec, bench, ruler, searched, done=list(trials))
    while stop is None:
        try:
            trial = next(running)
        except StopIteration as end:
            stop = end.value
            break
        trials.append(trial)
        pace = (time.monotonic() - started) / (len(trials) - first)
        ledger.add(trial, _search_report(trials, spec.candidates, pace))
    if not trials:
        raise SearchError("search.time_limit_s ran out before the first candidate was scored; raise it")
    if winner(trials) is None:
        reasons = {trial.reason for trial in trials}
        raise SearchError(
            f"none of {len(trials)} candidates could be scored: {'; '.join(map(str, sorted(reasons, key=str)))}"
        )
    measurable = choice.wants_latency(story.request) and story.profile is None
    found = choice.settle(story.request, ruler, searched, trials, measurable=measurable, report=ledger.report)
    return {
        "candidates_scored": sum(trial.state == "scored" for trial in trials),
        "candidates_failed": sum(trial.state == "failed" for trial in trials),
        # Counted, not promised: the budget is checked against what was really scored.
        "infeasible_scored": sum(trial.state == "scored" and not fits(trial.cost, ruler.limits) for trial in trials),
        "spaces": [space.name for space in searched],
        "stopped": stop,
        "exhausted": stop == "exhausted",
        "limit": dict(ruler.limits.given()),
        **found,
    }


def distil(story: Story, student: Student, folder: Path) -> Report:
    """Train one architecture to the end and save it as a folder timm loads.

    Args:
        folder: Where the student goes; the checkpoint lies in the ledger's folder, so that any attempt finds it.
    """
    spec, task = story.request.distill, story.dataset.task
    model = _fresh(story, student)
    last = None
    for last in train(
        model,
        story.dataset,
        spec,
        teacher=story.teacher,
        optimizer=student.space.optimizer,
        checkpoint_path=story.ledger.folder / "checkpoint.safetensors",
    ):
        story.ledger.report({"phase": "distilling", **asdict(last), "progress": last.step / last.steps})
    export.save_student(model, task, folder)
    return {
        "method": spec.method,
        "epochs": spec.epochs,
        # The last epoch's, as it is; picking the best epoch would flatter it.
        "selection_acc": accuracy(lambda x: logits(model, task, x), story.dataset.selection),
    }


def finish(story: Story, student: Student, folder: Path, so_far: Report) -> Report:
    """Load the exported folder as a user would, read the test split once, and write the manifest."""
    story.ledger.report({"phase": "exporting"})
    task, dataset = story.dataset.task, story.dataset
    model = export.load_student(folder)
    cost = measure(student.space, student.architecture, task)
    measured = {
        **so_far,
        "test_acc": accuracy(lambda x: logits(model, task, x), dataset.test),
        "params": cost.params,
        "macs": cost.macs,
        "architecture": dict(student.architecture),
        "space": student.space.name,
    }
    if not student.space.model(student.architecture, task).stock:
        export.save_portable(model, task, folder)
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


def _fresh(story: Story, student: Student) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(story.request.distill.seed)
        return student.space.build(student.architecture, story.dataset.task)


def _search_report(trials: Sequence[Trial], total: int, pace_s: float | None) -> Report:
    best = winner(trials)
    return {
        "phase": "searching",
        "scored": len(trials),
        "candidates": total,
        "progress": len(trials) / total,
        "best_score": best.score if best else None,
        "best_params": best.cost.params if best else None,
        "best_space": best.space if best else None,
        "best_architecture": dict(best.architecture) if best else None,
        "eta_s": None if pace_s is None else pace_s * (total - len(trials)),
    }
