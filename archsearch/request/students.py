"""Several students of one request: how many, or the limits of one cost that each of them has to itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from archsearch.errors import InvalidRequest
from archsearch.plain import Spec
from archsearch.request.budget import LIMITS, Budget
from archsearch.request.search import SearchSpec

# Each of them is trained.
MOST = 8
Body = dict[str, Any]


_Several = Field(min_length=2, max_length=MOST)
_Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...] | None, _Several]
_Shares = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...] | None, _Several]
_Times = Annotated[tuple[Annotated[float, Field(gt=0)], ...] | None, _Several]


class StudentLimits(Spec):
    """Limits of one cost, one for each student, the loosest first. Every other limit of the budget holds for all."""

    params: _Counts = Field(None, description="See the budget's field of that name, as for all that follow.")
    macs: _Counts = None
    params_ratio: _Shares = None
    macs_ratio: _Shares = None
    size_bytes: _Counts = None
    peak_activation_bytes: _Counts = None
    latency_ms: _Times = None

    @model_validator(mode="after")
    def _check_one_cost(self) -> StudentLimits:
        named = [name for name, limits in self if limits is not None]
        if len(named) != 1:
            told = " and ".join(named) or "none"
            raise ValueError(f"gives the limits of one cost, of {', '.join(LIMITS)}; it has {told}")
        return self

    @property
    def of(self) -> tuple[str, tuple[float, ...]]:
        """The cost that is limited, and its limits."""
        ((name, limits),) = ((name, limits) for name, limits in self if limits is not None)
        return name, limits


def _count_or_limits(value: Any) -> str:
    return "limits" if isinstance(value, StudentLimits | Mapping) else "count"


Students = Annotated[
    Annotated[int, Field(ge=1, le=MOST), Tag("count")] | Annotated[StudentLimits, Tag("limits")],
    Discriminator(_count_or_limits),
]


def spelled_out(body: Body) -> Body:
    """A request with the limits of its students in one place, and the loosest of them in its budget.

    Several limits of a cost may be given in the budget itself. Where the number of candidates was left open, there are
    more of them.

    Raises:
        InvalidRequest: Two costs have several limits, or a limit is none, or is there twice.
    """
    budget, given = dict(_items(body.get("budget"))), body.get("students")
    lists = {name: value for name, value in budget.items() if name in LIMITS and isinstance(value, list | tuple)}
    named = {name: value for name, value in _items(given) if isinstance(value, list | tuple) and name in LIMITS}
    if len(lists) > 1:
        first, second, *_ = lists
        raise InvalidRequest(f"has several limits, as budget.{first} has; only one cost may", field=f"budget.{second}")
    if lists:
        ((name, values),) = lists.items()
        limits = _sorted(name, values, f"budget.{name}")
        if given is not None and given != len(limits):
            detail = f"budget.{name} has {len(limits)} limits, a student each; leave students out"
            raise InvalidRequest(detail, field="students")
        body = _limited(body, budget, name, limits)
    elif len(named) == 1:
        ((name, values),) = named.items()
        limits = _sorted(name, values, f"students.{name}")
        if budget.get(name) not in (None, limits[0]):
            detail = f"the loosest limit is {limits[0]:,}, and budget.{name} is {budget[name]}; leave that out"
            raise InvalidRequest(detail, field=f"students.{name}")
        body = _limited(body, budget, name, limits)
    return _with_candidates(body)


def _sorted(name: str, values: Sequence[Any], field: str) -> list[float]:
    """The limits, the loosest first."""
    if not 1 <= len(values) <= MOST:
        raise InvalidRequest(f"give 1 to {MOST} limits; there are {len(values)}", field=field)
    for i, value in enumerate(values):
        try:
            Budget.model_validate({name: value})
        except ValidationError as error:
            told = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise InvalidRequest(told, field=f"{field}.{i}") from None
        if value is None or value in values[:i]:
            raise InvalidRequest("is no limit" if value is None else f"{value:,} is there twice", field=f"{field}.{i}")
    return sorted(values, reverse=True)


def _limited(body: Body, budget: Body, name: str, limits: list[float]) -> Body:
    students = {name: limits} if len(limits) > 1 else 1
    return {**body, "budget": {**budget, name: limits[0]}, "students": students}


def _items(spec: Any) -> list[tuple[str, Any]]:
    """The fields of a part of a request, as plain data or as the part itself; none of what is neither."""
    if isinstance(spec, Spec):
        return [(name, getattr(spec, name)) for name in type(spec).model_fields]
    return list(spec.items()) if isinstance(spec, Mapping) else []


def _with_candidates(body: Body) -> Body:
    """A body that says how many candidates there are, where several students have to be found and it does not: for each
    student after the first half as many more."""
    students, search = body.get("students"), body.get("search", {})
    if isinstance(students, Mapping):
        students = max((len(limits) for limits in students.values() if isinstance(limits, list | tuple)), default=1)
    open_ = isinstance(search, Mapping) and "candidates" not in search
    if not open_ or not isinstance(students, int) or not 1 < students <= MOST:
        return body
    usual: int = SearchSpec.model_fields["candidates"].default
    return {**body, "search": {**search, "candidates": usual * (students + 1) // 2}}
