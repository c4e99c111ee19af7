"""A request with what it names at hand, as every phase is given it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from archsearch import checks
from archsearch.data.batches import Alive, now_and_then
from archsearch.data.task import Dataset
from archsearch.device import resolve
from archsearch.errors import InvalidRequest
from archsearch.hardware import Limits, limits, measure_teacher, teacher_activation_bytes
from archsearch.hardware.profile import Profile
from archsearch.inherit import Inheritance, make_ready
from archsearch.ledger.ledger import Ledger
from archsearch.pretrained import Shelf, Stored
from archsearch.pretrained import make_ready as make_shelf
from archsearch.request import Architecture, JobRequest, PretrainedNetwork, Start
from archsearch.search import Look, evaluate, look_along, look_at
from archsearch.spaces import Cost, Space, choose, own, spaces
from archsearch.spaces.choose import AUTO, PRETRAINED, TEACHER
from archsearch.teachers import Teacher


@dataclass(frozen=True)
class Student:
    """The architecture a job ends with: the winner of its search, or the one the request names."""

    space: Space
    architecture: Architecture

    @property
    def learns_by(self) -> Literal["sgd", "adamw"]:
        """What it is trained with unless the request says otherwise."""
        return self.space.learns_by(self.architecture)

    @property
    def called(self) -> str | None:
        """The network whose weights it begins with, where that is one people know."""
        return None if self.space.called is None else self.space.called(self.architecture)

    def read(self, dataset: Dataset) -> Dataset:
        """The data as it reads them."""
        return self.space.read(self.architecture, dataset)


@dataclass(frozen=True)
class Opened:
    """What a request names, at hand.

    Attributes:
        profile: Latencies measured on another machine, where the budget names such a device.
        networks: Finds the networks with weights a request names; of None, all that are at hand.
    """

    teacher: Teacher
    dataset: Dataset
    profile: Profile | None = None
    networks: Callable[[Sequence[PretrainedNetwork] | None], Sequence[Stored]] = lambda named: ()


@dataclass(frozen=True)
class Story:
    """A request, what it names, and where its progress is kept.

    Attributes:
        open: Opens what the request names, when the first phase that is gone through asks for it.
        kept: What was planned when the request was submitted, if it was kept.
        chosen: What the request left open, by part, and why it is as it is; see `settled`.
        whole: The story of all students, where this is that of one of several.
    """

    request: JobRequest
    ledger: Ledger
    open: Callable[[], Opened]
    kept: checks.Plan | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)
    whole: Story | None = None

    def of_one(self, request: JobRequest, ledger: Ledger) -> Story:
        """The story of one of several students, of whom the teacher and all that is ready of it are the same.

        Args:
            request: As if it had been made for this student alone.
            ledger: As the student's phases see it.
        """
        return Story(request, ledger, lambda: self.opened, chosen=self.chosen, whole=self)

    @cached_property
    def opened(self) -> Opened:
        return self.open()

    @cached_property
    def plan(self) -> checks.Plan:
        if self.whole is not None:
            return self.whole.plan
        return self.kept or checks.plan(self.request, checks.known(self.dataset, self.profile))

    @cached_property
    def device(self) -> str:
        """Where the request is computed on this machine; raises InvalidRequest where that is not there."""
        return resolve(self.request.device)

    @property
    def teacher(self) -> Teacher:
        return self.opened.teacher

    @property
    def dataset(self) -> Dataset:
        return self.opened.dataset

    @property
    def profile(self) -> Profile | None:
        return self.opened.profile

    @cached_property
    def teacher_cost(self) -> Cost:
        if self.whole is not None:
            return self.whole.teacher_cost
        return measure_teacher(self.teacher, self.dataset.task)

    @property
    def limits(self) -> Limits:
        return limits(self.request.budget, self.teacher_cost)

    @cached_property
    def exact_limits(self) -> Limits:
        """What networks are held to where they are counted exactly, which takes too long for every candidate: beside
        the limits, no more activations than the teacher's, unless the budget says otherwise."""
        budget = self.request.budget
        if budget.peak_activation_bytes is not None or budget.may_exceed_teacher:
            return self.limits
        most = teacher_activation_bytes(self.teacher, self.dataset.task, budget.batch)
        return replace(self.limits, peak_activation_bytes=most)

    @cached_property
    def spaces(self) -> tuple[Space, ...]:
        """The spaces that are searched together: those of the request that some member within the budget is in."""
        plan, task, model = self.plan, self.dataset.task, self.teacher.model
        found = [spaces.get(name) for name in plan.spaces]
        if "own space" in plan.left:
            asked = self.request.search.space == TEACHER
            if self.inheritance is not None:
                found = [self._cut, *(found if self.request.distill.init == "auto" else ())]
            else:
                found[:0] = choose(TEACHER, task, model) if asked else own(model, task, self.dataset.training_examples)
        if self.weighted is not None:
            found = [*(() if self._takes_weights_alone else found), self.weighted.space()]
        return checks.possible(self.request.budget, found, task, self.limits)

    @property
    def inheritance(self) -> Inheritance | None:
        """The teacher ready to be cut; None where students do not begin with its weights.

        Raises InvalidRequest where the request says they do, and the teacher is of no family that can be cut.
        """
        return None if isinstance(self.readied, str) else self.readied

    @property
    def uncut(self) -> str:
        """Why students do not begin with the teacher's weights; empty where they do."""
        return self.readied if isinstance(self.readied, str) else ""

    @cached_property
    def readied(self) -> Inheritance | str:
        """The teacher ready to be cut, or why it is not; raises as `inheritance`."""
        if self.whole is not None:
            return self.whole.readied
        request, init = self.plan.request, self.request.distill.init
        named = request.search.space if request.student is None else request.student.space
        if init in ("scratch", "pretrained") or "own space" not in self.plan.left or named not in (AUTO, TEACHER):
            return "nothing asks for it"
        try:
            return make_ready(self.teacher, self.dataset)
        except InvalidRequest as error:
            reason = error.detail.partition("; ")[0]
            if init == "teacher":
                raise InvalidRequest(f"{reason}; set init to 'auto' or 'scratch'", field="distill.init") from None
            return reason  # the families remain, and the teacher's own where it is one

    @cached_property
    def shelf(self) -> Shelf | None:
        """The networks with weights that the request means; None where there are none, or none for such data.

        Raises InvalidRequest where the request names one that is none for such data.
        """
        if self.whole is not None:
            return self.whole.shelf
        dataset, named = self.dataset, self.plan.request.search.pretrained
        if dataset.task.domain != "image_classification":
            return None
        stored = self.opened.networks(self.request.search.pretrained if named is None else named)
        shelf = make_shelf(stored, self.teacher, dataset, cache=self.ledger.cache) if stored else None
        if shelf is not None and named is not None and shelf.left_out:
            label, reason = next(iter(shelf.left_out.items()))
            number = next(i for i, one in enumerate(named) if one.label == label)
            raise InvalidRequest(f"{label}: {reason}", field=f"search.pretrained.{number}")
        return shelf if shelf is not None and shelf.members else None

    @property
    def weighted(self) -> Shelf | None:
        """The networks with weights that students may begin as; None where they may not, or there are none.

        Raises InvalidRequest where they are to, and there are none.
        """
        if "pretrained" not in self.plan.left:
            return None
        if self.shelf is None and self._takes_weights_alone:
            raise InvalidRequest(
                "no network with weights is at hand here: name some of timm's that the hub has, or have a folder of "
                "them set up as ARCHSEARCH_PRETRAINED_DIR",
                field="search.pretrained",
            )
        return self.shelf

    @property
    def _takes_weights_alone(self) -> bool:
        request = self.plan.request
        named = request.search.space if request.student is None else request.student.space
        return PRETRAINED in (named, request.distill.init)

    def look(self, start: Start) -> Look:
        """What scores candidates that begin so."""
        if start == "pretrained" and self.shelf is not None:
            return look_along(self.shelf)
        if start == "teacher" and self.inheritance is not None:
            return look_at(self.inheritance)
        return evaluate

    @property
    def _cut(self) -> Space:
        assert self.inheritance is not None
        return self.inheritance.space_of(mend=self.request.distill.repair)

    def student(self, space: str, architecture: Mapping[str, int]) -> Student:
        """A student of this job by the name of its space."""
        if space == PRETRAINED and self.weighted is not None:
            return Student(self.weighted.space(), dict(architecture))
        if space == TEACHER and self.inheritance is not None:
            return Student(self._cut, dict(architecture))
        (found,) = choose(space, self.dataset.task, self.teacher.model)
        return Student(found, dict(architecture))


def alive(ledger: Ledger, phase: str) -> Alive:
    """What long work calls while it goes on: a sign of life in the ledger, which raises Cancelled where it is not
    wanted any more."""
    return now_and_then(lambda: ledger.report({"phase": phase}))
