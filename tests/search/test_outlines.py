"""Plain ways to make a network smaller come first where it is cut out of a larger one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm

import archsearch.models  # noqa: F401  (registers with timm)
from archsearch.domains.images.task import ImageTask
from archsearch.hardware import Limits, Ruler, fits
from archsearch.request import SearchSpec
from archsearch.search.outlines import outlines
from archsearch.search.propose import Proposals
from archsearch.search.repair import Members
from archsearch.search.trial import Trial, key
from archsearch.spaces import Space, of_teacher

TASK = ImageTask(10, 3, 64, 64, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def space() -> Space:
    """Of a teacher with seven stages, some of which may be missing."""
    teacher = timm.create_model("tf_efficientnet_lite0", num_classes=10).eval()
    order = tuple(tuple(range(len(stage))) for stage in teacher.blocks)
    return replace(of_teacher(teacher, TASK, order), start="teacher")


def members(space: Space, share: float = 0.22) -> Members:
    whole = space.cost(space.largest(TASK), TASK)
    return Members(space, Ruler(TASK, Limits(params=int(share * whole.params), macs=whole.macs)))


def test_they_fit_and_none_could_keep_a_level_more(space: Space) -> None:
    within = members(space)
    found = outlines(within)
    assert len(found) > 4
    largest = space.largest(TASK)
    for architecture in found:
        assert fits(within.estimate(architecture), within.ruler.limits)
        assert architecture != largest
    kept_whole = [a for a in found if a["stages"] == 5 and all(a[f"width{i}"] == 8 for i in (4, 5))]
    assert kept_whole, "the first stages as they are, and no others"


def test_where_everything_fits_the_whole_is_the_only_one(space: Space) -> None:
    assert outlines(members(space, 1.0)) == [space.largest(TASK)]


def test_sizes_of_missing_stages_are_no_other_network(space: Space) -> None:
    assert space.canonical is not None
    largest = space.largest(TASK)
    one, other = ({**largest, "stages": 5, "depth6": depth, "width7": depth} for depth in (1, 3))
    assert space.canonical(one) == space.canonical(other) == {**largest, "stages": 5}
    assert space.model(one, TASK) == space.model(other, TASK)
    assert space.canonical(largest) == largest


def test_they_are_half_of_what_is_proposed_and_nothing_comes_twice(space: Space) -> None:
    within, spec = members(space), SearchSpec(candidates=16, sampler="random")
    proposals, first, told = Proposals(spec, {space.name: within}), outlines(within), []
    for number in range(spec.candidates):
        proposed = proposals.next()
        assert proposed is not None
        told.append(proposed)
        cost = within.estimate(proposed[1])
        proposals.tell(Trial(number, *proposed, cost, "scored", -1.0 - number, {}, {}, None, 0.0, (-1.0 - number,)))
    assert [architecture for _, architecture in told[:8]] == first[:8]
    assert len({key(*each) for each in told}) == 16
    assert len({str(space.model(architecture, TASK)) for _, architecture in told}) == 16


def test_a_family_that_begins_with_noise_is_proposed_by_its_sampler_alone(space: Space) -> None:
    scratch, spec = replace(space, start="scratch"), SearchSpec(candidates=16, sampler="random")
    proposed = Proposals(spec, {space.name: members(scratch)}).next()
    assert proposed is not None
    assert proposed[1] not in outlines(members(space))[:1]
