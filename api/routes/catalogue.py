"""What there is to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Annotated, Any, Literal

from fastapi import Depends, Query

from archsearch import domains
from archsearch.data import Task
from archsearch.distill.loss import losses, serves
from archsearch.domains.images.task import ImageTask
from archsearch.pretrained.listing import listed
from archsearch.pretrained.stored import at_hand
from archsearch.proxies import proxies
from archsearch.proxies.score import DEFAULT, votes_in
from archsearch.request import Architecture
from archsearch.spaces import Space, of_domain, spaces
from archsearch.spaces.choose import PRETRAINED

from ..deps import Services, ServicesDep
from ..room import Room
from ..schemas import LossAnswer, MemberAnswer, ParameterAnswer, ProxyAnswer, SpaceAnswer

router = Room(tags=["catalogue"])


@dataclass(frozen=True)
class Sized:
    """Of what size a task is, as a query tells: `given` has the sizes of every domain, None where nothing is said."""

    domain: str | None
    classes: int
    given: Mapping[str, int | None]


def _sized(**query: Any) -> Sized:
    return Sized(query.pop("domain"), query.pop("classes"), query)


def _parameters() -> list[Parameter]:
    """What the query may name: the domain, the classes, and the sizes that examples of any domain have."""
    called = "Which tasks the spaces are for; by the sizes that are given, or image_classification, where it is not."
    named: dict[str, tuple[Any, Any]] = {
        "domain": (Annotated[Literal[tuple(domains.DOMAINS)] | None, Query(description=called)], None),
        "classes": (Annotated[int, Query(ge=2, le=10_000)], 10),
    }
    for name, field in domains.sizes().items():
        told = Query(description=f"{field.description} {field.default} where nothing is said.")
        named[name] = (Annotated[(field.annotation | None, *field.metadata, told)], None)
    return [Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for name, (kind, default) in named.items()]  # fmt: skip


_sized.__signature__ = Signature(_parameters())  # type: ignore[attr-defined]
Asked = Annotated[Sized, Depends(_sized)]


@router.get("/spaces")
def list_spaces(services: ServicesDep, asked: Asked) -> list[SpaceAnswer]:
    """Student families of a domain, with bounds and costs for a task of this size; and, of images, the networks with
    weights at hand, which are a space together."""
    task = domains.sized(asked.domain, asked.classes, asked.given)
    found = [describe(space, task) for space in of_domain(task.domain)]
    return [*found, _with_weights(services, task)] if isinstance(task, ImageTask) else found


@router.get("/spaces/{name}")
def get_space(services: ServicesDep, name: str, asked: Asked) -> SpaceAnswer:
    """One family, for a task of its own domain unless the query names another."""
    if name == PRETRAINED:
        return _with_weights(services, domains.sized(asked.domain, asked.classes, asked.given))
    space = spaces.get(name, field="name")
    own = None if asked.domain or any(asked.given.values()) else space.domain
    return describe(space, domains.sized(asked.domain or own, asked.classes, asked.given))


@router.get("/proxies")
def list_proxies() -> list[ProxyAnswer]:
    """Zero-cost proxies: what each measures, needs and comes from, and its weight in the default score."""
    vocabularies = domains.vocabularies()
    return [
        ProxyAnswer(
            name=proxy.name,
            doc=proxy.doc,
            needs=sorted(proxy.needs),
            unit="nats (votes with its logarithm)" if proxy.magnitude else "votes as it is",
            source=proxy.source,
            default_weight=DEFAULT.get(proxy.name, 0.0),
            default_weights=votes_in(proxy.name, domains.DOMAINS),
            domains=[name for name, size in vocabularies.items() if proxy.defined_for(size)],
        )
        for proxy in proxies
    ]


@router.get("/losses")
def list_losses() -> list[LossAnswer]:
    """Distillation losses: what each reads, its published weights, and its own settings with their defaults."""
    return [
        LossAnswer(
            name=loss.name,
            doc=loss.doc,
            needs_teacher=loss.needs_teacher,
            reads=sorted(loss.reads),
            tasks=sorted(loss.tasks),
            domains=serves(loss),
            weight=loss.weight,
            labels=loss.labels,
            by_labels=loss.by_labels,
            settings=loss.settings().model_dump(),
            source=loss.source,
        )
        for loss in losses
    ]


def _with_weights(services: Services, task: Any) -> SpaceAnswer:
    """What a search of space `pretrained` would choose among, as far as networks have been counted for such images."""
    doc = "Networks that come with weights, ranked by what they know of the teacher's answers: see /v1/pretrained."
    about = {"name": PRETRAINED, "doc": doc, "benchmark": False}
    if not isinstance(task, ImageTask):
        return SpaceAnswer(**about, refuses=task.domain.replace("_", " "), stock_timm=False)
    stored = at_hand(services.settings.pretrained_dir)
    # As an architecture counts in them: those that can be a student, in the order in which they are found.
    rows = {row.name: row for row in listed(stored, task, services.files.evidence)}
    able = [row for row in (rows[one.label] for one in stored) if row.params is not None and row.macs is not None]
    if not able:
        none = "no network with weights is at hand" if not stored else "none at hand is known to: ask /v1/pretrained"
        return SpaceAnswer(**about, refuses=none, stock_timm=False)
    members = [
        MemberAnswer(architecture={"network": i}, params=row.params or 0, macs=row.macs or 0)
        for i, row in enumerate(able)
    ]
    last = len(able) - 1
    number = ParameterAnswer(name="network", doc="which of them, by its number", low=0, high=last, step=1)
    ranked = sorted(members, key=lambda member: member.params)
    return SpaceAnswer(
        **about,
        refuses=None,
        stock_timm=all(row.stock_timm for row in able),
        parameters=[number],
        cardinality=len(able),
        smallest=ranked[0],
        largest=ranked[-1],
    )


def describe(space: Space, task: Task) -> SpaceAnswer:
    def member(architecture: Architecture) -> MemberAnswer:
        cost = space.cost(architecture, task)
        return MemberAnswer(architecture=architecture, params=cost.params, macs=cost.macs)

    about = {"name": space.name, "doc": space.doc, "benchmark": space.benchmark, "refuses": space.refusal(task)}
    if about["refuses"] is not None:
        return SpaceAnswer(**about, stock_timm=False)
    return SpaceAnswer(
        **about,
        stock_timm=space.stock(task),
        parameters=[
            ParameterAnswer(name=p.name, doc=p.doc, low=p.low, high=p.high, step=p.step) for p in space.parameters(task)
        ],
        cardinality=space.cardinality(task),
        smallest=member(space.smallest(task)),
        largest=member(space.largest(task)),
    )
