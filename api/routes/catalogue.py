"""What there is to choose from."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from archsearch.distill.loss import losses
from archsearch.domains.images.task import ImageTask
from archsearch.proxies import proxies
from archsearch.proxies.score import DEFAULT
from archsearch.request import Architecture
from archsearch.spaces import Space, of_domain, spaces

from ..room import Room
from ..schemas import LossAnswer, MemberAnswer, ParameterAnswer, ProxyAnswer, SpaceAnswer

router = Room(tags=["catalogue"])
Size = Annotated[int, Query(ge=4, le=512, description="Height and width in pixels.")]
Classes = Annotated[int, Query(ge=2, le=10_000)]
Channels = Annotated[int, Query(ge=1, le=4)]


@router.get("/spaces")
def list_spaces(image_size: Size = 32, classes: Classes = 10, in_chans: Channels = 3) -> list[SpaceAnswer]:
    """Student families, with bounds and costs for a task of this size."""
    task = ImageTask(classes, in_chans, image_size, image_size, (0.5,) * in_chans, (0.25,) * in_chans)
    return [describe(space, task) for space in of_domain(task.domain)]


@router.get("/spaces/{name}")
def get_space(name: str, image_size: Size = 32, classes: Classes = 10, in_chans: Channels = 3) -> SpaceAnswer:
    task = ImageTask(classes, in_chans, image_size, image_size, (0.5,) * in_chans, (0.25,) * in_chans)
    return describe(spaces.get(name, field="name"), task)


@router.get("/proxies")
def list_proxies() -> list[ProxyAnswer]:
    """Zero-cost proxies: what each measures, needs and comes from, and its weight in the default score."""
    return [
        ProxyAnswer(
            name=proxy.name,
            doc=proxy.doc,
            needs=sorted(proxy.needs),
            unit="nats (votes with its logarithm)" if proxy.magnitude else "votes as it is",
            source=proxy.source,
            default_weight=DEFAULT.get(proxy.name, 0.0),
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
            weight=loss.weight,
            labels=loss.labels,
            settings=loss.settings().model_dump(),
            source=loss.source,
        )
        for loss in losses
    ]


def describe(space: Space, task: ImageTask) -> SpaceAnswer:
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
