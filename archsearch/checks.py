"""What can be told of a request without torch, in one place: made once when it is submitted, and kept with it.

A `Plan` is the request with what it leaves open settled, the spaces that are left of those it means, and what only
somebody with the teacher at hand can tell. A worker goes on from the plan, and asks none of this again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from archsearch import choice, defaults, domains, students
from archsearch.data.task import Dataset, Task, awaits_teacher
from archsearch.distill.method import check_answers, features_alone
from archsearch.distill.train import check_distill
from archsearch.errors import InvalidRequest
from archsearch.hardware import Limits, Ruler, excess, limits, nearest, require_possible
from archsearch.hardware.devices import devices
from archsearch.hardware.profile import Profile
from archsearch.request import Architecture, Budget, JobRequest, RegisteredTeacher, TimmTeacher, parse_request
from archsearch.search import check_search
from archsearch.spaces import Cost, Space, check_name, choose, spaces
from archsearch.spaces.choose import AUTO, PRETRAINED, TEACHER
from archsearch.teachers import check_source
from archsearch.teachers.facts import check_facts
from archsearch.teachers.stand_in import asked_of, check_stand_in

# Members of a space whose costs are asked before a budget that nothing holds so far is refused in a request, and how
# far beyond it (as log cost / limit) the nearest of them has to be.
_STEPS, _CLEARLY = 15, 0.7
# Members of a space counted on the meta device before a limit on activations is called impossible.
_COUNTED = 60
# Classes of data without labels, where nothing tells how many the teacher knows before it is loaded.
_SUPPOSED = 10
# Raise it when a plan would say something else of the same request: kept ones are made anew by a worker then.
_VERSION = 2

# What takes the teacher, or the machine the work is done on: the kind of networks the teacher itself is of; which
# networks with weights are at hand; whether the device to be timed is here; whether the training's devices are; which
# families are left to be verified.
Left = Literal["own space", "pretrained", "device", "training", "verify"]


@dataclass(frozen=True)
class Known:
    """What is known of a request's parts without torch.

    Attributes:
        images: Of the training split (count).
        teacher: What the row of a registered teacher tells; empty of any other.
        profile: Latencies measured on another machine, where the budget names such a device.
    """

    task: Task
    images: int
    teacher: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile | None = None


@dataclass(frozen=True)
class Plan:
    """What is settled of a request, and what is left for whoever has its teacher at hand.

    Attributes:
        request: The request with what it leaves open chosen, as far as that goes without the teacher.
        chosen: Why so, by part.
        spaces: Names of the registered spaces that are searched, as far as the budget tells.
        limits: The budget in absolute numbers, as far as they are known.
        left: What is to be told yet.
    """

    request: JobRequest
    chosen: Mapping[str, str]
    spaces: tuple[str, ...]
    limits: Limits
    left: tuple[Left, ...]

    def to_json(self) -> dict[str, Any]:
        parts = {"chosen": dict(self.chosen), "spaces": list(self.spaces), "left": list(self.left)}
        request = self.request.model_dump(mode="json")
        return {"version": _VERSION, "request": request, "limits": asdict(self.limits), **parts}


def kept(body: Mapping[str, Any] | None) -> Plan | None:
    """The plan that `to_json` wrote; None where there was none yet, or one of another version."""
    if body is None or body.get("version") != _VERSION:
        return None
    found = Limits(**body["limits"])
    return Plan(parse_request(body["request"]), body["chosen"], tuple(body["spaces"]), found, tuple(body["left"]))


def known(dataset: Dataset, profile: Profile | None) -> Known:
    """What there is to know where the data are at hand; of the teacher, it asks itself."""
    return Known(dataset.task, dataset.training_examples, profile=profile)


def plan(request: JobRequest, known: Known) -> Plan:
    """Raise what can be told to be wrong with a request without torch, and settle what can be.

    Args:
        request: With a student in its own words, where it names one of another job's.
    """
    if awaits_teacher(known.task):
        check_stand_in(_head(request, known), getattr(request.teacher, "classes", None) or known.teacher.get("classes"))
        known = replace(known, task=asked_of(known.teacher, known.task, _SUPPOSED))
    request, why = _without_answers(request, known)
    known = replace(known, task=domains.of(known.task).read_by(known.task, known.teacher))
    check_distill(request.training, known.task if defaults.trains(request) else None)
    _check_weights(request, known)
    named = _named(request, known)
    settled = defaults.settle(request, known.images, None, domains.of(known.task).pace)
    _check_teacher(request, known)
    most, left = _limits(settled.request.budget, known), _left(settled.request, known)
    _check_start(request, left)
    if defaults.trains(request) and (request.distill.init == "scratch" or not {"own space", "pretrained"} & {*left}):
        check_answers(request.training, known.task)
    if known.profile is None:
        devices.get(request.budget.device, field="budget.device")
    if request.kind != "distill":
        check_search(request.search, request.device)
        if choice.wants_latency(request) and known.profile is not None:
            named = choice.timed_spaces(request, named, known.task, known.profile)
        meant = [spaces.get(name) for name in named]
        for tier in students.tiers(settled.request):
            with tier.named():
                budget = tier.request.budget
                _check_possible(budget, meant, known.task, _limits(budget, known))
    return Plan(settled.request, {**settled.why, **why}, named, most, left)


def check_names(request: JobRequest) -> None:
    """Raise UnknownName for a space, voter or method nobody registered; needs no data, and so tells less than `plan`.

    For whoever is about to send data away that a plan could be made with.
    """
    check_distill(request.training, None)
    if request.student is None:
        check_name(request.search.space)
        check_search(request.search, request.device)
    elif request.student.space is not None:
        check_name(request.student.space, field="student.space")


def possible(budget: Budget, spaces: Sequence[Space], task: Task, limits: Limits) -> tuple[Space, ...]:
    """Those spaces that have a member within the budget; raises ImpossibleBudget when none has.

    Activations are counted, which takes torch; the closed form knows only how many there are at least. Latency is left
    out: it takes a device to tell, and is looked at once its predictor is there.
    """
    countable = replace(limits, latency_ms=None)
    ruler = Ruler(task, countable, budget.size_precision, budget.batch)
    able = require_possible(spaces, task, ruler.estimate, countable, budget)
    if countable.peak_activation_bytes is not None:
        able = require_possible(able, task, ruler.measure, countable, budget, most=_COUNTED)
    return able


def takes_weights(request: JobRequest, domain: str) -> bool:
    """Whether networks with weights may be what a request's students are."""
    named = request.search.space if request.student is None else request.student.space
    meant = named in (AUTO, PRETRAINED) and request.distill.init in ("auto", "pretrained")
    return meant and domain == "image_classification"


def _check_weights(request: JobRequest, known: Known) -> None:
    """Raise InvalidRequest where students are to begin as networks with weights and cannot."""
    init, space = request.distill.init, request.search.space if request.student is None else request.student.space
    _check_named(request, known.task)
    if PRETRAINED not in (init, space):
        return
    if known.task.domain != "image_classification":
        raise InvalidRequest(
            f"networks with weights are of images, and the data are {domains.of(known.task).examples}; take teacher, "
            "scratch or auto",
            field="distill.init" if init == PRETRAINED else "search.space",
        )
    if space not in (AUTO, PRETRAINED) or init not in ("auto", PRETRAINED):
        told = f"{space} holds no networks with weights" if init == PRETRAINED else f"they do not begin as {init}"
        raise InvalidRequest(
            f"{told}; take space pretrained, or distill.init auto",
            field="search.space" if init == PRETRAINED else "distill.init",
        )
    if request.search.pretrained == ():
        raise InvalidRequest("names no network; name some, or leave it out for all at hand", field="search.pretrained")
    if request.student is not None and request.search.pretrained is None:
        raise InvalidRequest(
            "name the networks the student's architecture counts in, as the search it is of had them",
            field="search.pretrained",
        )


def _check_named(request: JobRequest, task: Task) -> None:
    """Raise InvalidRequest where networks with weights are named that nobody would look at."""
    space = None if request.student is None else request.student.space
    if request.search.pretrained and (task.domain != "image_classification" or space not in (None, PRETRAINED)):
        told = f"the data are {domains.of(task).examples}" if space is None else f"the student is of space {space}"
        raise InvalidRequest(f"names networks with weights, and {told}; leave it out", field="search.pretrained")


def _without_answers(request: JobRequest, known: Known) -> tuple[JobRequest, Mapping[str, str]]:
    """The request with its losses chosen, where the teacher's answers are not learned from; and why they are these."""
    if _head(request, known) != "none" or not defaults.trains(request):
        return request, {}
    distill = features_alone(request.distill)
    why = "teacher.head is none: students learn from what its last layer reads (cosine), beside the labels"
    return request.model_copy(update={"distill": distill}), {} if distill == request.distill else {"method": why}


def _head(request: JobRequest, known: Known) -> str:
    """What becomes of the teacher's answers."""
    return str(getattr(request.teacher, "head", None) or known.teacher.get("head", "keep"))


def _named(request: JobRequest, known: Known) -> tuple[str, ...]:
    """Names of the registered spaces a request searches; where it names its student, that is checked instead."""
    if request.student is None:
        # What the teacher's own space holds takes the network itself to tell, and which weights there are, a machine.
        means = request.search.space
        found = () if means in (TEACHER, PRETRAINED) else choose(means, known.task, None, known.images)
        return tuple(space.name for space in found)
    space, architecture = request.student.space, request.student.architecture
    if space is not None and architecture is not None:
        check_name(space, field="student.space")
        if space not in (TEACHER, PRETRAINED):
            spaces.get(space, field="student.space").check(architecture, known.task)
    return ()


def _check_teacher(request: JobRequest, known: Known) -> None:
    if isinstance(request.teacher, TimmTeacher):
        check_source(request.teacher, field="teacher")
        check_facts(request.teacher.model_dump(), known.task, request.teacher.classes, field="teacher")
    elif isinstance(request.teacher, RegisteredTeacher):
        given = request.teacher.classes
        said = request.teacher.model_dump(include={"input_size", "head"}, exclude_none=True)
        facts = {**known.teacher, **said}
        check_facts(facts, known.task, known.teacher.get("classes") if given is None else given)


def _check_start(request: JobRequest, left: Sequence[Left]) -> None:
    """Raise InvalidRequest where students cannot begin with their teacher's weights, being no part of it."""
    if request.distill.init != "teacher" or "own space" in left:
        return
    named = request.search.space if request.student is None else request.student.space
    reason = (
        "a device's profile holds none of the teacher's own kind: time it on this machine"
        if named in (AUTO, TEACHER)
        else f"students of space {named} are cut out of no teacher: use space 'teacher' or 'auto'"
    )
    raise InvalidRequest(f"{reason}, or set init to 'auto'", field="distill.init")


def _limits(budget: Budget, known: Known) -> Limits:
    """The budget in absolute numbers, as far as the teacher's cost is known."""
    params, macs = known.teacher.get("params"), known.teacher.get("macs")
    if params is None or macs is None:
        return limits(budget, None)
    measured_on = known.teacher.get("measured_on") or {}
    if measured_on and domains.of(known.task).size(known.task).items() <= measured_on.items():
        return limits(budget, Cost(params, macs))
    # Counted on data of another shape, or who knows which: a worker counts its multiply-accumulates on these.
    return replace(limits(budget.model_copy(update={"macs_ratio": None}), Cost(params, macs)), macs=budget.macs)


def _check_possible(budget: Budget, spaces: Sequence[Space], task: Task, limits: Limits) -> None:
    """Raise ImpossibleBudget where some milliseconds tell that nothing fits: less than `possible` finds, never more.

    A budget that is missed by less than a factor of two after a few steps is left for `possible` to judge, in a worker.
    """
    countable = replace(limits, latency_ms=None)
    ruler = Ruler(task, countable, budget.size_precision, budget.batch)

    asked: dict[tuple[str, tuple[int, ...]], Cost] = {}

    def price(space: Space, member: Architecture) -> Cost:
        key = (space.name, tuple(member.values()))
        return asked.get(key) or asked.setdefault(key, ruler.estimate(space, member))

    def unclear(space: Space) -> bool:
        return excess(nearest(space, task, price, countable, most=_STEPS)[1], countable) < _CLEARLY

    if spaces and not any(unclear(space) for space in spaces):
        require_possible(spaces, task, price, countable, budget, most=_STEPS)


def _left(request: JobRequest, known: Known) -> tuple[Left, ...]:
    found: list[Left] = []
    latency = request.kind != "distill" and choice.wants_latency(request)
    means = request.search.space if request.student is None else request.student.space
    # A profile never holds the teacher's own space, which is another one for every teacher.
    if means in (AUTO, TEACHER) and not (latency and known.profile is not None):
        found.append("own space")
    # Latencies of networks that are what a machine has at hand are in no profile, either.
    if takes_weights(request, known.task.domain) and not (latency and known.profile is not None):
        found.append("pretrained")
    if latency and known.profile is None:
        found.append("device")
    if defaults.trains(request):
        found.append("training")
    if request.verify == AUTO:
        found.append("verify")
    return tuple(found)
