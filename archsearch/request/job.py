"""`JobRequest`, its parts put together, and how it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from archsearch.errors import InvalidRequest
from archsearch.plain import Spec, read_yaml
from archsearch.request.base import Architecture, Device, Id, OfJob
from archsearch.request.budget import Budget
from archsearch.request.data import DatasetData, DigitsData, FileData
from archsearch.request.distill import DistillSpec
from archsearch.request.search import SearchSpec, Verification, VerifySpec
from archsearch.request.students import StudentLimits, Students, spelled_out
from archsearch.request.teachers import LocalTeacher, RegisteredTeacher, TimmTeacher
from archsearch.request.wrong import first_error

Kind = Literal["search", "distill", "search_and_distill"]


class StudentSpec(Spec):
    """The student of a job that distils without searching: an architecture, or a candidate another job scored."""

    space: str | None = Field(None, description="Space the architecture belongs to.", max_length=100)
    architecture: Architecture | None = Field(None, description="The space's parameters, all of them.")
    job: Id | None = Field(None, description="Job whose candidate it is, instead of space and architecture.")
    candidate: int | None = Field(
        None, ge=0, lt=2**31, description="Number of the candidate in that job; see its /pareto."
    )

    @model_validator(mode="after")
    def _check_one_way(self) -> StudentSpec:
        named = self.space is not None and self.architecture is not None
        scored = self.job is not None and self.candidate is not None
        half = (self.space is None) != (self.architecture is None) or (self.job is None) != (self.candidate is None)
        if half or named == scored:
            raise ValueError("give space and architecture, or job and candidate")
        return self


class JobRequest(Spec):
    """Everything a job needs. `search_and_distill` finds the student and trains it; the other kinds do one half."""

    kind: Kind = "search_and_distill"
    name: str | None = Field(None, max_length=200, description="For people.")
    teacher: Annotated[TimmTeacher | LocalTeacher | RegisteredTeacher | OfJob, Field(discriminator="kind")]
    data: Annotated[DigitsData | DatasetData | FileData | OfJob, Field(discriminator="kind")]
    device: Device = Field(
        "auto",
        description="Where everything of this request is computed: the processor, a GPU by its number, or auto, which "
        "takes a GPU where there is one. What latency is limited on is `budget.device`.",
    )
    budget: Budget = Budget()
    search: SearchSpec = SearchSpec()
    verify: Verification | None = Field(
        "auto",
        description="Distil the best candidates of the search briefly, and choose among them. `auto` does so where "
        "several families are left and the student is distilled: scores do not rank between families yet. Four "
        "candidates then take at most a tenth of the training. Null is never.",
    )
    distill: DistillSpec = DistillSpec()
    students: Students = Field(
        1,
        description="How many students are found, distilled and handed over side by side, each for a limit of its own "
        "(count): the budget's limit of one cost and halves of it, or, where the budget has none, the teacher's cost "
        "and halves of that; or the limits themselves, such as {'latency_ms': [5, 2, 1]}. The same may be said in the "
        "budget: {'latency_ms': [5, 2, 1]}.",
    )
    student: StudentSpec | None = Field(
        None,
        description="The student to distil; only for kind `distill`. With a job's candidate, teacher and data may be "
        "left out: they are that job's.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_from_job(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(student := value.get("student"), dict) and student.get("job"):
            return {"teacher": {"kind": "job"}, "data": {"kind": "job"}, **value}
        return value

    @model_validator(mode="before")
    @classmethod
    def _take_limits_of_students(cls, value: Any) -> Any:
        return spelled_out(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _check_kind(self) -> JobRequest:
        if (self.kind == "distill") != (self.student is not None):
            raise ValueError("kind 'distill' needs a student, and only it takes one")
        if self.kind == "distill" and self.how_many > 1:
            raise InvalidRequest(
                "a job that distils one named student has no others; leave it out, or search", field="students"
            )
        for name in ("teacher", "data"):
            if isinstance(getattr(self, name), OfJob) and (self.student is None or self.student.job is None):
                raise ValueError(f"{name}: kind 'job' is for a student that names a job and its candidate")
        if self.distill.devices > 1 and ":" in (one := self.training.device or ""):
            raise ValueError(
                f"device: {one} is one GPU, and distill.devices asks for {self.distill.devices}; take cuda"
            )
        if self.search.choose == "knee" and self.search.trade is None:
            raise ValueError("search.choose: a knee needs a cost to trade; set search.trade, for example 'macs'")
        if self.kind == "distill" and self.verification is not None:
            raise ValueError("verify: it compares what a search found; this job has none")
        if self.kind != "distill" and self.budget.unlimited and self.how_many == 1:
            raise ValueError("budget: set at least one limit, for example {'params_ratio': 0.1}")
        return self

    @property
    def how_many(self) -> int:
        """Students that are asked for (count)."""
        return len(self.students.of[1]) if isinstance(self.students, StudentLimits) else self.students

    @property
    def training(self) -> DistillSpec:
        """How the student is trained, and where."""
        return self.distill.model_copy(update={"device": self.distill.device or self.device})

    @property
    def verification(self) -> VerifySpec | None:
        """How candidates are verified, if they are; `auto` has to be settled before it is one or the other."""
        return self.verify if isinstance(self.verify, VerifySpec) else None


def parse_request(source: Any) -> JobRequest:
    """A request from plain data; raises InvalidRequest naming the field and what is wrong with it."""
    try:
        return JobRequest.model_validate(source)
    except ValidationError as error:
        field, detail = first_error(error)
        raise InvalidRequest(detail, field=field or None) from None


def read_request(path: Path) -> JobRequest:
    """A request from a YAML or JSON file."""
    try:
        text = path.read_text(encoding="utf-8")
        return parse_request(json.loads(text) if path.suffix == ".json" else read_yaml(text))
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path.name} is not readable: {error}") from None
