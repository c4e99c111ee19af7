"""What a job does, from request to student, without knowing where its progress is kept.

    validate ▸ find the winner ▸ distil it ▸ evaluate and export

Every phase returns plain JSON. A `Ledger` keeps trials and progress: SQL rows for the service, files for the library.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from archsearch import choice, defaults, doubt, evaluate, export, usable, verify
from archsearch.data.batches import Alive, now_and_then
from archsearch.data.metrics import Key, answers, metric, scores
from archsearch.data.task import Dataset, Task
from archsearch.distill.amount import amount, chosen
from archsearch.distill.attempts import FALLBACK, fallback
from archsearch.distill.method import check_method, settle
from archsearch.distill.objective import objective
from archsearch.distill.room import require_room_for_batch
from archsearch.distill.schedule import usual_lr
from archsearch.distill.together import check_machine, train_together
from archsearch.distill.train import check_distill, device_of, logits, train
from archsearch.errors import SearchError, TrainingError
from archsearch.hardware import (
    Limits,
    Ruler,
    excess,
    limits,
    measure,
    measure_teacher,
    nearest,
    require_possible,
)
from archsearch.hardware.profile import Profile
from archsearch.precision import resolve
from archsearch.request import Architecture, DistillSpec, JobRequest
from archsearch.search import Trial, check_search, prepare, require_room_for, search, winner
from archsearch.spaces import Cost, Space, check_name, choose, spaces
from archsearch.teachers import Teacher, check_teacher

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archsearch.distill.progress import Progress

Report = dict[str, Any]

# What makes of a distillation the training it has to beat.
WITHOUT_TEACHER = {"method": "none", "losses": None, "labels": None, "temperature": None, "alpha": None}

# Members of a space whose costs are asked before a budget that nothing holds so far is refused in a request, and how
# far beyond it (as log cost / limit) the nearest of them has to be.
_STEPS, _CLEARLY = 15, 0.7
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

    def warn(self, code: str, detail: str) -> None:
        """Tell the user what did not stop the job and may spoil its result; a code is told once in a job's life."""

    def warnings(self) -> Sequence[Mapping[str, str]]:
        """What was warned of so far, in order: code and detail."""


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
        chosen: What the request left open, by part, and why it is as it is; see `settled`.
    """

    request: JobRequest
    teacher: Teacher
    dataset: Dataset
    ledger: Ledger
    profile: Profile | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)

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


def alive(ledger: Ledger, phase: str) -> Alive:
    """What long work calls while it goes on: a sign of life in the ledger, which raises Cancelled where it is not
    wanted any more."""
    return now_and_then(lambda: ledger.report({"phase": phase}))


def settled(story: Story, checked: Report) -> Story:
    """The story with its request as `validate` settled it, which is taken out of what that returned.

    What was kept before requests left anything open says nothing of it.
    """
    found = checked.pop("settled", None) or _settle(story)
    known = replace(story, request=JobRequest.model_validate(found["request"]), chosen=found["chosen"])
    for name in {"teacher_cost", "spaces"} & story.__dict__.keys():  # took time to tell, and do not depend on it
        known.__dict__[name] = story.__dict__[name]
    return known


def _settle(story: Story) -> Report:
    searched = () if story.request.kind == "distill" else story.spaces
    found = defaults.settle(story.request, len(story.dataset.train), [space.name for space in searched])
    return {"request": found.request.model_dump(mode="json"), "chosen": dict(found.why)}


def validate(story: Story) -> Report:
    """Check everything that can be wrong before anything is spent; returns what the teacher turned out to be, and under
    `settled` the request with nothing left open."""
    story.ledger.report({"phase": "validating"})
    for note in story.dataset.notes:
        story.ledger.warn(note.code, note.detail)
    check_request(story.request, story.dataset)
    if defaults.trains(story.request):
        check_machine(story.request.distill)
    checked = check_teacher(story.teacher, story.dataset, report=alive(story.ledger, "validating"))
    if story.request.kind != "distill":
        images = defaults.scored_on(story.request, len(story.dataset.train))
        require_room_for(images, story.teacher, story.dataset.task)
    if defaults.trains(story.request):
        size = chosen(story.request.distill, len(story.dataset.train)).spec.batch_size
        require_room_for_batch(size or 0, story.dataset.task)
    for note in (*story.dataset.notes, *story.teacher.notes, *checked.notes):
        story.ledger.warn(note.code, note.detail)
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
        **{f"selection_{key}": value for key, value in checked.scores.items()},
        "params": cost.params,
        "macs": cost.macs,
        "settled": _settle(story),
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


def check_possible(request: JobRequest, spaces: Sequence[Space], task: Task, limits: Limits) -> None:
    """Raise ImpossibleBudget where some milliseconds tell that nothing fits: less than `possible` finds, never more.

    A budget that is missed by less than a factor of two after a few steps is left for `possible` to judge, in a worker.
    """
    budget = request.budget
    countable = replace(limits, latency_ms=None)
    ruler = Ruler(task, countable, budget.size_precision, budget.batch)

    asked: dict[tuple[str, tuple[int, ...]], Cost] = {}

    def price(space: Space, member: Architecture) -> Cost:
        key = (space.name, tuple(member.values()))
        return asked.get(key) or asked.setdefault(key, ruler.estimate(space, member))

    def unclear(space: Space) -> bool:
        return excess(nearest(space, task, price, countable, most=_STEPS)[1], countable) < _CLEARLY

    if not any(unclear(space) for space in spaces):
        require_possible(spaces, task, price, countable, budget, most=_STEPS)


def check_request(request: JobRequest, dataset: Dataset | Any) -> None:
    """What names and sizes alone can tell to be wrong; needs no torch.

    Args:
        dataset: Anything with a `task` and a `train` split that has a length.
    """
    check_names(request)
    defaults.scored_on(request, len(dataset.train))
    if defaults.trains(request):
        check_distill(request.distill, dataset)
    if request.student is not None:
        named = request.student
        if named.space is not None and named.architecture is not None and named.space != "teacher":
            spaces.get(named.space, field="student.space").check(named.architecture, dataset.task)
        return
    if request.search.space not in ("auto", "teacher"):
        choose(request.search.space, dataset.task, None)


def check_names(request: JobRequest) -> None:
    """Raise UnknownName for a space, voter or method nobody registered; needs no data."""
    check_method(request.distill)
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
    found = usable.settle(
        story.request, ruler, searched, trials, measurable=measurable, report=ledger.report, warn=ledger.warn
    )
    return {
        "candidates_scored": sum(trial.state == "scored" for trial in trials),
        "candidates_failed": sum(trial.state == "failed" for trial in trials),
        # Of the winner and the front, whose costs are counted on the networks themselves.
        "infeasible_scored": len(found["budget_check"]["beyond"]),
        "spaces": [space.name for space in searched],
        "stopped": stop,
        "exhausted": stop == "exhausted",
        "limit": dict(ruler.limits.given()),
        **found,
    }


def check(story: Story, found: Report) -> Report:
    """Distil the best of what `find` found briefly; returns the winner among them and how it was told."""
    request, ledger, spec, task = story.request, story.ledger, story.request.verification, story.dataset.task
    assert spec is not None
    trials, spaces = ledger.trials(), {space.name: space for space in story.spaces}
    if choice.wants_latency(request):
        # Those that were timed and hold the limit; the others are promises.
        timely = {member["number"] for member in found["front"]}
        trials = [trial for trial in trials if trial.number in timely]
    budget = request.budget
    ruler = Ruler(task, story.limits, budget.size_precision, budget.batch, trade=request.search.trade)
    before = found.get("unusable", {})
    contenders, unusable = usable.contenders(
        trials, spec.candidates, spaces, ruler, before, report=ledger.report, warn=ledger.warn
    )
    verified = verify.verify(
        spec,
        request.distill,
        contenders,
        spaces,
        story.teacher,
        story.dataset,
        folder=ledger.folder / "verify",
        cache=ledger.cache,
        report=ledger.report,
    )
    won = verified["winner"]
    costs = usable.exact_costs(spaces[won["space"]], won["architecture"], ruler)
    return {**verified, "budget_check": {"winner": costs}, "unusable": unusable}


def distil(story: Story, student: Student, folder: Path) -> Report:
    """Train one architecture to the end and save it as a folder timm loads.

    Several seeds are trained one after the other, and the best on the selection split is the student; so is, where the
    request asks for it, the same network without a teacher, for comparison.

    Args:
        folder: Where the student goes; checkpoints lie in the ledger's folder, so that any attempt finds them.
    """
    spec, task = story.request.distill, story.dataset.task
    method = settle(spec, task)
    runs = [("student", method.spec.model_copy(update={"seed": spec.seed + i})) for i in range(spec.seeds)]
    if spec.baseline:
        runs.append(("baseline", spec.model_copy(update=WITHOUT_TEACHER)))
    found: dict[str, Mapping[Key, float]] = {}
    accs: dict[str, float] = {}
    failed: dict[str, str] = {}
    recipes: dict[str, Report] = {}
    for i, (role, one) in enumerate(runs):
        name = str(one.seed) if role == "student" else role
        try:
            model, recipes[name] = _train(story, student, one, role, i, len(runs))
            # The last epoch's, as it is; picking the best epoch would flatter it.
            selection = story.dataset.selection
            asked = answers(partial(_sound, model, task), selection, report=alive(story.ledger, "distilling"))
            found[name] = scores(asked, selection.y_N, task)
        except TrainingError as error:  # one of several does not take the others along
            failed[name] = str(error)
            if len(runs) == 1 or (role == "student" and i + 1 == spec.seeds and not accs):
                raise
            continue
        acc = found[name][metric(task).key]
        if role == "baseline":
            export.save_student(model, task, story.ledger.folder / "baseline")
        elif acc > max(accs.values(), default=-1.0):  # of equals the first
            export.save_student(model, task, folder)
        accs[name] = acc
    accs.pop("baseline", None)
    best = max(accs, key=lambda seed: accs[seed])
    return {
        "method": method.spec.method if spec.losses is None else "+".join(spec.losses),
        "why": method.why,
        **objective(method.spec, task).describe(),
        "epochs": spec.epochs,
        "recipe": recipes[best],
        "seed": int(best),
        **{f"selection_{key}": value for key, value in found[best].items()},
        "seeds": accs,
        "failed": failed,
        "baseline": {f"selection_{key}": value for key, value in found.get("baseline", {}).items()} or None,
    }


def _train(
    story: Story, student: Student, spec: DistillSpec, role: str, number: int, count: int
) -> tuple[nn.Module, Report]:
    """One of a job's trainings, gone on with where an earlier attempt left it; returns what it took, too."""
    model, images = _fresh(story, student, spec.seed), len(story.dataset.train)
    started, last, fell_back = time.monotonic(), None, False
    trained = train if spec.devices == 1 else train_together
    for last in trained(
        model,
        story.dataset,
        spec,
        teacher=story.teacher,
        optimizer=student.space.optimizer,
        checkpoint_path=story.ledger.folder / "checkpoints" / f"{role}-{spec.seed}.safetensors",
        cache=story.ledger.cache,
        **({"alive": alive(story.ledger, "distilling")} if spec.devices == 1 else {}),
    ):
        fell_back = fell_back or _tell_fallback(story.ledger.warn, last, spec)
        share = last.step / last.steps
        eta_s = last.eta_s + (count - number - 1) * (time.monotonic() - started + last.eta_s)
        report = {"phase": "distilling", **asdict(last), "eta_s": eta_s, "progress": (number + share) / count}
        story.ledger.report({**report, "training": role, "trainings": count, "seed": spec.seed})
    whole, usual = amount(spec), usual_lr(spec, student.space.optimizer)
    asked = spec.micro_batch or whole.batch_size // spec.devices
    if last is not None and last.micro_batch < asked:
        story.ledger.warn(
            "fewer_at_a_time",
            f"for want of memory {last.micro_batch} images were computed at a time instead of {asked}: batch norm and "
            "what compares images saw those alone; set distill.micro_batch or distill.batch_size to choose yourself",
        )
    return model, {
        **asdict(whole),
        "steps": images // whole.batch_size * whole.epochs,
        # An earlier attempt may have ended the training without saying so; what it took back is not known then.
        "lr": last.lr if last else spec.lr or usual,
        "usual_lr": usual,
        "retries": last.retries if last else 0,
        "precision": last.precision if last else _computed_in(story.ledger, spec),
    }


def _computed_in(ledger: Ledger, spec: DistillSpec) -> str:
    """What a training computed in that an earlier attempt ended, as far as that told."""
    fell_back = any(warning["code"] == FALLBACK for warning in ledger.warnings())
    return "fp32" if fell_back else resolve(spec.precision, device_of(spec))


def _tell_fallback(warn: Callable[[str, str], None], last: Progress, spec: DistillSpec) -> bool:
    found = fallback(last, spec, device_of(spec))
    if found is not None:
        warn(found.code, found.detail)
    return found is not None


def _sound(model: nn.Module, task: Task, x_BCHW: Tensor) -> Tensor:
    """A student's answers; raises TrainingError where they are no numbers, whatever its weights are."""
    answers_BK = logits(model, task, x_BCHW)
    if not answers_BK.isfinite().all():
        raise TrainingError("the trained network's answers are no numbers; lower distill.lr", field="distill.lr")
    return answers_BK


def finish(story: Story, student: Student, folder: Path, so_far: Report) -> Report:
    """Load the exported folder as a user would, make every format of it, and read the test split once, for them all."""
    started = time.monotonic()
    story.ledger.report({"phase": "exporting"})
    task, dataset, spec = story.dataset.task, story.dataset, story.request.distill

    def tell(what: str, done: int, of: int) -> None:
        # The formats are half of the work here, and the test split the other half; 1.0 is the job's own end.
        share = done / of if what == "test" else (done / of) - 1
        story.ledger.report({"phase": "exporting", "making": what, "progress": 0.5 + 0.49 * share})

    made = export.make_formats(folder, task, dataset.selection, listener=tell, alive=alive(story.ledger, "exporting"))
    others: dict[str, evaluate.Network] = {evaluate.TEACHER: story.teacher.logits}
    baseline = so_far.get("baseline")
    if baseline is not None:
        without = export.load_student(story.ledger.folder / "baseline")
        others = {evaluate.NO_TEACHER: evaluate.network(without, task), **others}
    seen = export.examine(folder, made, dataset, task, others, listener=partial(tell, "test"))
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
        "device": device_of(spec),
        "formats": export.brief(seen.report),
        "evaluation": {name: evaluate.summary(row) for name, row in seen.rows.items()},
        "judged": judgement.summary(),
        "export": {"seconds": time.monotonic() - started},
    }
    teacher = {
        **_tested(seen.rows[evaluate.TEACHER], task),
        "params": story.teacher_cost.params,
        "macs": story.teacher_cost.macs,
    }
    return {"student": measured, "teacher": teacher}


def _tested(row: evaluate.Row, task: Task) -> Report:
    """What a network is worth on the test split: what the task is judged by, and accuracy beside it."""
    if isinstance(row.evaluation, evaluate.MultiLabelEvaluation):
        return {"test_map": row.evaluation.mean_ap}
    plain = {"test_acc": row.evaluation.top1_acc.percent}
    return {"test_balanced_acc": row.evaluation.balanced_acc, **plain} if task.uneven else plain


def _judge(story: Story, student: Student, trained: Report, rows: Mapping[str, evaluate.Row]) -> doubt.Judgement:
    """Hold the student against the others, and warn where it is not a success."""
    dataset, space = story.dataset, student.space
    how = doubt.Training(**trained["recipe"], space=space.name, learns_from=space.learns_from)
    found = doubt.judge({name: row.evaluation for name, row in rows.items()}, dataset, how)
    if found.degraded:
        story.ledger.warn(doubt.DEGRADED, found.describe())
    return found


def doubts(ledger: Ledger) -> Report:
    """What a result says of its own worth.

    `degraded` is True where the student is hardly one; `warnings` are all the user was told.
    """
    told = [dict(warning) for warning in ledger.warnings()]
    return {"degraded": any(warning["code"] == doubt.DEGRADED for warning in told), "warnings": told}


def describe_data(dataset: Dataset) -> Report:
    """The data's identity for results and manifests."""
    sizes = {name: len(getattr(dataset, name)) for name in ("train", "selection", "test")}
    return {"sha256": dataset.sha256, "classes": dataset.task.classes, "images": sizes}


def _fresh(story: Story, student: Student, seed: int) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
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
