"""Latencies measured on another machine, as one file: a phone's or a server's pace without the phone or the server."""

# N members

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PrivateAttr, ValidationError, model_validator

from archsearch import domains
from archsearch.data.task import Task
from archsearch.errors import InvalidRequest, UnknownName
from archsearch.hardware.predict import Calibration, Floats, Predictor, fit
from archsearch.request import Architecture, Spec, errors_by_field
from archsearch.spaces import Space, spaces

MOST_BYTES = 1_000_000
MOST_ENTRIES = 500
FEWEST_ENTRIES = 8

Text = Annotated[str, Field(min_length=1, max_length=200)]
Milliseconds = Annotated[float, Field(gt=0, lt=1e6)]


class Machine(Spec):
    """What the latencies were measured on."""

    processor: Text
    system: Text
    torch: Text


class ProfiledTask(BaseModel):
    """All of a task that latency depends on: `classes`, and of what size its examples are, as their domain tells it
    (`Domain.measured_on`); images are meant where no `domain` is named."""

    model_config = ConfigDict(frozen=True, extra="allow")

    classes: int = Field(strict=True, ge=2, le=1_000_000)

    @property
    def domain(self) -> Any:
        return (self.__pydantic_extra__ or {}).get("domain", "image_classification")

    @property
    def size(self) -> dict[str, Any]:
        """Of the examples, as `Domain.size` tells it."""
        return {name: value for name, value in (self.__pydantic_extra__ or {}).items() if name != "domain"}

    def check(self) -> None:
        """Raise UnknownName, or ValidationError naming the size at fault."""
        domains.get(self.domain if isinstance(self.domain, str) else "").measured_on.model_validate(self.size)

    def task(self) -> Task:
        found: Task = domains.get(self.domain).measured_on(**self.size).task(self.classes)
        return found

    @classmethod
    def of(cls, task: Task) -> ProfiledTask:
        named = {} if task.domain == "image_classification" else {"domain": task.domain}
        return cls(classes=task.classes, **named, **domains.of(task).size(task))


class Entry(Spec):
    """One member of a space and how long one batch took: median and quartiles."""

    space: Text
    architecture: Annotated[Architecture, Field(min_length=1, max_length=100)]
    latency_ms: Milliseconds
    low_ms: Milliseconds
    high_ms: Milliseconds

    @model_validator(mode="after")
    def _check_order(self) -> Entry:
        if not self.low_ms <= self.latency_ms <= self.high_ms:
            raise ValueError(f"low_ms ≤ latency_ms ≤ high_ms does not hold: {self.low_ms}, {self.latency_ms}, "
                             f"{self.high_ms}")  # fmt: skip
        return self


class Profile(Spec):
    """What `archsearch profile` writes and a budget's device can be."""

    format: Literal[1] = 1
    name: Text
    device: Annotated[Text, Field(description="How the networks were run, for people: cpu-torch, a phone's runtime.")]
    machine: Machine
    task: ProfiledTask
    batch: int = Field(ge=1, le=1024)
    threads: int = Field(ge=1, le=1024)
    entries: Annotated[tuple[Entry, ...], Field(min_length=FEWEST_ENTRIES, max_length=MOST_ENTRIES)]

    def by_space(self) -> dict[str, list[Entry]]:
        """Entries of each space, spaces in the order they first come."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.space, []).append(entry)
        return found

    # What `knowing` was given: no field, so that no file brings its own.
    _fitted: dict[str, Predictor] = PrivateAttr({})

    def knowing(self, predictors: Mapping[str, str]) -> Profile:
        """The same profile with predictors fitted before, as `fit_profile` returns them."""
        found = self.model_copy()
        found._fitted = {name: Predictor.from_json(text) for name, text in predictors.items()}
        return found

    def predictors(self, task: Task, batch: int) -> dict[str, Predictor]:
        """A predictor for each space of the profile, fitted once; raises InvalidRequest as `require` does."""
        self.require(task, batch)
        if not self._fitted:
            self._fitted = {
                name: fit([spaces.get(name).count(e.architecture, task) for e in entries],
                          [e.latency_ms for e in entries])
                for name, entries in self.by_space().items()
            }  # fmt: skip
        return dict(self._fitted)

    def require(self, task: Task, batch: int) -> None:
        """Raise InvalidRequest where the profile was made for other examples or batches."""
        here, domain = self.task, domains.of(task)
        if here.domain != domain.name:
            theirs = domains.get(here.domain).examples
            raise InvalidRequest(
                f"{self.name} was measured on {theirs} and the data are {domain.examples}; measure again with "
                f"`archsearch profile {_flags(task)}`",
                field="budget.device",
            )
        if not (there := domain.size(task)).items() <= here.size.items():
            raise InvalidRequest(
                f"{self.name} was measured on {domain.examples} of {_told(here.size)} and the data has "
                f"{_told(there)}; measure again with `archsearch profile {_flags(task)}`",
                field="budget.device",
            )
        if task.classes != here.classes:
            raise InvalidRequest(
                f"{self.name} was measured with {here.classes} classes and the data has {task.classes}; measure again "
                f"with `archsearch profile --classes {task.classes}`",
                field="budget.device",
            )
        if batch != self.batch:
            raise InvalidRequest(
                f"{self.name} was measured at batch {self.batch} and the budget says {batch}; set budget.batch to "
                f"{self.batch}, or measure again with `archsearch profile --batch {batch}`",
                field="budget.batch",
            )


def make_profile(
    name: str, device: str, machine: Mapping[str, str], task: Task, found: Mapping[str, Calibration]
) -> Profile:
    """A profile of what was timed here, checked as if it had been read.

    Args:
        found: The calibration of each space, all of one device, batch and number of threads.
    """
    first = next(iter(found.values()))
    profile = Profile(
        name=name,
        device=device,
        machine=Machine(**machine),
        task=ProfiledTask.of(task),
        batch=first.batch,
        threads=first.threads,
        entries=tuple(
            Entry(
                space=space,
                architecture=dict(member),
                latency_ms=latency.median_ms,
                low_ms=latency.low_ms,
                high_ms=latency.high_ms,
            )
            for space, calibration in found.items()
            for member, latency in zip(calibration.members, calibration.latencies, strict=True)
        ),
    )
    check_profile(profile)
    return profile


def read_profile(source: bytes | Path) -> Profile:
    """A profile from a file or its bytes; raises InvalidRequest naming the field at fault and what to do."""
    content = _content(source)
    if len(content) > MOST_BYTES:
        raise InvalidRequest(f"a profile has at most {MOST_BYTES:,} bytes; this has more", field="profile")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"is not JSON: {error}; give the file `archsearch profile` wrote", field="profile"
        ) from None
    try:
        profile = Profile.model_validate(body)
    except ValidationError as error:
        field, detail = errors_by_field(error.errors())[0]
        raise InvalidRequest(detail, field=field or "profile") from None
    _check_task(profile.task)
    check_profile(profile)
    return profile


def _check_task(task: ProfiledTask) -> None:
    try:
        task.check()
    except ValidationError as error:
        field, detail = errors_by_field(error.errors())[0]
        raise InvalidRequest(detail, field=f"task.{field}" if field else "task") from None
    except UnknownName as error:
        raise InvalidRequest(error.detail, field="task.domain") from None


def _told(size: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in size.items())


def _flags(task: Task) -> str:
    """The flags of `archsearch profile` that mean a task's size."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in domains.of(task).flags(task).items())


def fit_profile(tell: Callable[[JsonValue], None], body: dict[str, Any]) -> dict[str, JsonValue]:
    """A predictor of every space of a profile as JSON, for `Profile.knowing`; minutes of work for hundreds of entries.

    Args:
        tell: Unused: a worker calls this in a child process, where functions are given it.
    """
    profile = Profile.model_validate(body)
    found = profile.predictors(profile.task.task(), profile.batch)
    return {name: predictor.to_json() for name, predictor in found.items()}


def check_profile(profile: Profile) -> None:
    """Raise InvalidRequest for what is well formed and cannot be: unknown networks, latencies that say nothing."""
    task = profile.task.task()
    seen: set[tuple[str, tuple[tuple[str, int], ...]]] = set()
    for i, entry in enumerate(profile.entries):
        space = spaces.get(entry.space, field=f"entries.{i}.space")
        space.require(task, field=f"entries.{i}.space")
        space.check(entry.architecture, task, field=f"entries.{i}.architecture")
        key = (entry.space, tuple(sorted(entry.architecture.items())))
        if key in seen:
            raise InvalidRequest(
                f"the same member of {entry.space} was given before; keep one", field=f"entries.{i}.architecture"
            )
        seen.add(key)
    for name, entries in profile.by_space().items():
        _check_space(spaces.get(name), entries, task)


def _check_space(space: Space, entries: list[Entry], task: Task) -> None:
    if len(entries) < FEWEST_ENTRIES:
        raise InvalidRequest(
            f"{space.name} has {len(entries)} entries and at least {FEWEST_ENTRIES} are needed; measure again with "
            f"`archsearch profile --space {space.name} --members 20`, or leave the space out",
            field="entries",
        )
    latencies_N = np.array([entry.latency_ms for entry in entries])
    macs_N = np.array([space.count(entry.architecture, task).macs for entry in entries], float)
    if np.ptp(latencies_N) == 0:
        raise InvalidRequest(
            f"all {len(entries)} latencies of {space.name} are {latencies_N[0]:g} ms, which tells no network from "
            "another; measure again with a finer clock",
            field="entries",
        )
    if np.ptp(macs_N) > 0 and (related := rank_correlation(latencies_N, macs_N)) < 0:
        raise InvalidRequest(
            f"the latencies of {space.name} fall as networks grow (rank correlation {related:.2f} with "
            "multiply-accumulates); were entries mixed up, or milliseconds swapped for examples a second?",
            field="entries",
        )


def rank_correlation(a_N: Floats, b_N: Floats) -> float:
    """Spearman's ρ, equal values sharing their mean rank; 0 where one does not vary."""
    ranks = [_ranks(values_N) for values_N in (a_N, b_N)]
    if any(np.ptp(rank_N) == 0 for rank_N in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values_N: Floats) -> Floats:
    _, which_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks_N: Floats = (last - (counts - 1) / 2)[which_N]
    return ranks_N


def _content(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        with source.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"{source} cannot be read: {error.strerror}", field="profile") from None
