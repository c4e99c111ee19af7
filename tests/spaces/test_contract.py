"""What every registered space promises, on two very different tasks."""

from __future__ import annotations

import json
import random

import pytest
import torch

from archsearch.data import Task
from archsearch.errors import InvalidRequest
from archsearch.hardware import measure
from archsearch.request import Architecture
from archsearch.spaces import Space, spaces

TASKS = {
    "8px-gray": Task(10, 1, 8, 8, (0.5,), (0.25,)),
    "32px-colour": Task(100, 3, 32, 32, (0.5,) * 3, (0.25,) * 3),
}
SMALL = 1_000_000  # parameters; a space to deploy from goes down at least as far


@pytest.fixture(params=spaces.names())
def space(request: pytest.FixtureRequest) -> Space:
    return spaces.get(request.param)


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]


def members(space: Space, task: Task, count: int = 4) -> list[Architecture]:
    """The smallest, the largest and some between."""
    rng = random.Random(f"{space.name}/{task.in_chans}")
    some = [{p.name: rng.choice(p.values) for p in space.parameters(task)} for _ in range(count)]
    return [space.smallest(task), space.largest(task), *some]


def test_the_closed_form_of_the_cost_is_what_torch_counts(space: Space, task: Task) -> None:
    for architecture in members(space, task):
        assert space.cost(architecture, task) == measure(space, architecture, task), architecture


def test_a_built_member_has_the_parameters_counted_and_answers(space: Space, task: Task) -> None:
    small = sorted(members(space, task, 8), key=lambda a: space.cost(a, task).params)
    assert space.benchmark or space.cost(small[0], task).params <= SMALL
    x_BCHW = torch.rand(2, task.in_chans, task.height, task.width)
    looks = []
    for architecture in small[:3]:
        model = space.build(architecture, task)
        assert sum(weight.numel() for weight in model.parameters()) == space.cost(architecture, task).params
        logits_BK = model(x_BCHW)
        assert logits_BK.shape == (2, task.classes)
        assert logits_BK.isfinite().all()
        looks.append(bool(logits_BK[0].ne(logits_BK[1]).any()))
    # Published tables hold networks that pass nothing on; among what is to be deployed there must be none.
    assert any(looks) if space.benchmark else all(looks), "the answer has to depend on the image"


def test_the_seed_decides_the_initial_weights(space: Space, task: Task) -> None:
    def build(seed: int) -> list[torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return list(space.build(space.smallest(task), task).state_dict().values())

    first, again, other = build(1), build(1), build(2)
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not all(a.equal(b) for a, b in zip(first, other, strict=True))


def test_architectures_and_arguments_are_plain_json(space: Space, task: Task) -> None:
    for architecture in members(space, task):
        arguments = dict(space.model(architecture, task).args)
        assert json.loads(json.dumps(architecture)) == architecture
        assert json.loads(json.dumps(arguments)) == arguments


def test_more_of_anything_never_costs_less(space: Space, task: Task) -> None:
    for architecture in members(space, task, 10):
        cost = space.cost(architecture, task)
        for parameter in space.parameters(task):
            more = architecture[parameter.name] + parameter.step
            if more in parameter.values:
                dearer = space.cost({**architecture, parameter.name: more}, task)
                assert dearer.params >= cost.params, parameter
                assert dearer.macs >= cost.macs, parameter
                # In published tables there are choices without a cost: heads that share a width, shortcuts.
                assert space.benchmark or dearer != cost, f"{parameter.name} costs nothing"


def test_every_member_passes_the_check(space: Space, task: Task) -> None:
    for architecture in members(space, task):
        space.check(architecture, task)


def test_what_is_no_member_is_refused_with_its_field(space: Space, task: Task) -> None:
    good, first = space.smallest(task), space.parameters(task)[0]
    without = {name: value for name, value in good.items() if name != first.name}
    cases = [
        (without, "student.architecture", f"{first.name!r} is missing"),
        ({**good, "colour": 1}, "student.architecture", "'colour' is no parameter"),
        ({**good, first.name: first.low - first.step}, f"student.architecture.{first.name}", "is not in"),
        ({**good, first.name: first.high + first.step}, f"student.architecture.{first.name}", "is not in"),
    ]
    cases += [
        ({**good, p.name: p.low + 1}, f"student.architecture.{p.name}", f"in steps of {p.step}")
        for p in space.parameters(task)
        if p.step > 1
    ]
    for architecture, field, detail in cases:
        with pytest.raises(InvalidRequest) as caught:
            space.check(architecture, task)
        assert (caught.value.field, detail in caught.value.detail) == (field, True), caught.value


def test_the_cardinality_counts_the_members(space: Space, task: Task) -> None:
    count = 1
    for parameter in space.parameters(task):
        count *= sum(1 for value in range(parameter.low, parameter.high + 1, parameter.step))
    assert space.cardinality(task) == count > 100
