"""What every registered space promises, on tasks of the sizes people have."""

from __future__ import annotations

import json
import random

import pytest
import torch

from archsearch.data import Task
from archsearch.errors import InvalidRequest
from archsearch.hardware import measure, measure_model, size_bytes
from archsearch.request import Architecture
from archsearch.spaces import Space, spaces
from archsearch.spaces.count import KINDS

CHANNELS = {"gray": 1, "colour": 3}
TASKS = {
    f"{side}px-{name}": Task(classes, chans, side, side, (0.5,) * chans, (0.25,) * chans)
    for side, classes in ((8, 10), (28, 10), (32, 100), (64, 20), (224, 10))
    for name, chans in CHANNELS.items()
}
SMALL = 100_000  # parameters; a space to deploy from goes down at least as far


# Published tables are of 32 and 224 pixels.
BENCHMARKED = ("8px-gray", "32px-colour", "224px-colour")
# Of the other sizes there is nothing new to tell but in `make test-all`.
SOON = ("8px-gray", "28px-gray", "32px-colour", "224px-colour")
TAKEN = [
    pytest.param((space.name, task), id=f"{space.name}-{task}", marks=[] if task in SOON else [pytest.mark.slow])
    for space in spaces
    for task in (BENCHMARKED if space.benchmark else TASKS)
    if space.refuses(TASKS[task]) is None
]


@pytest.fixture(params=TAKEN)
def pair(request: pytest.FixtureRequest) -> tuple[Space, Task]:
    """A space and a task that it takes."""
    space, task = request.param
    return spaces.get(space), TASKS[task]


@pytest.fixture
def space(pair: tuple[Space, Task]) -> Space:
    return pair[0]


@pytest.fixture
def task(pair: tuple[Space, Task]) -> Task:
    return pair[1]


@pytest.fixture(params=spaces.names())
def any_space(request: pytest.FixtureRequest) -> Space:
    return spaces.get(request.param)


def members(space: Space, task: Task, count: int = 4) -> list[Architecture]:
    """The smallest, the largest and some between."""
    rng = random.Random(f"{space.name}/{task.in_chans}/{task.height}")
    some = [{p.name: rng.choice(p.values) for p in space.parameters(task)} for _ in range(count)]
    return [space.smallest(task), space.largest(task), *some]


def test_the_closed_form_is_what_torch_counts_and_stores(space: Space, task: Task) -> None:
    smallest, largest, other = members(space, task, 1)
    for architecture in (other, smallest if task.in_chans == 1 else largest):
        with torch.device("meta"):
            model = space.build(architecture, task).requires_grad_(False)
        count = space.count(architecture, task)
        assert space.cost(architecture, task) == measure_model(model, (task.in_chans, task.height, task.width))
        stored = model.state_dict().values()
        assert size_bytes(count, "fp32") == sum(value.nbytes for value in stored), architecture
        halves = (value.half() if value.is_floating_point() else value for value in stored)
        assert size_bytes(count, "fp16") == sum(value.nbytes for value in halves), architecture
        # Latencies are predicted from the work of each kind.
        assert sum(count.work) == count.macs
        assert [work > 0 for work in count.work] == [layers > 0 for layers in count.layers]


def test_odd_sides_and_rectangles_are_counted_too(any_space: Space) -> None:
    task = Task(7, 3, 33, 47, (0.5,) * 3, (0.25,) * 3)
    *_, architecture = members(any_space, task, 1)
    assert any_space.cost(architecture, task) == measure(any_space, architecture, task)


def test_the_kinds_of_work_are_those_of_the_layers_that_run(any_space: Space) -> None:
    space = any_space
    task = TASKS["32px-colour"]
    for architecture in members(space, task, 2):
        with torch.device("meta"):
            model = space.build(architecture, task)
        ran: dict[str, int] = {}

        def note(module: torch.nn.Module, inputs: object, output: object) -> None:
            ran[kind_of(module)] = ran.get(kind_of(module), 0) + 1  # noqa: B023

        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.register_forward_hook(note)
        model.eval()(torch.empty(1, 3, 32, 32, device="meta"))
        counted = dict(zip(KINDS, space.count(architecture, task).layers, strict=True))
        counted.pop("attention")
        assert {kind: layers for kind, layers in counted.items() if layers} == ran


def kind_of(module: torch.nn.Module) -> str:
    if isinstance(module, torch.nn.Linear):
        return "linear"
    assert isinstance(module, torch.nn.Conv2d)
    if module.groups > 1:
        return "depthwise" if module.groups == module.in_channels else "grouped"
    return "conv" if module.kernel_size[0] > 1 else "pointwise"


def test_the_last_map_is_worth_pooling(space: Space, task: Task) -> None:
    if space.benchmark or task.height < 28:
        return
    with torch.device("meta"):
        features = space.build(space.smallest(task), task).eval()
        *_, height, width = features.forward_features(
            torch.empty(1, task.in_chans, task.height, task.width, device="meta")
        ).shape
    if space.name == "vit":  # tokens × width
        height = width = int(height**0.5)
    assert 3 <= min(height, width) <= 32


def test_a_small_member_has_the_parameters_counted_and_answers(space: Space, task: Task) -> None:
    small = sorted(members(space, task, 8), key=lambda a: space.cost(a, task).macs)
    assert space.benchmark or space.cost(small[0], task).params <= SMALL
    x_BCHW = torch.rand(2, task.in_chans, task.height, task.width)
    looks = []
    for architecture in small[: 3 if task.height <= 32 else 1]:
        model = space.build(architecture, task)
        assert sum(weight.numel() for weight in model.parameters()) == space.cost(architecture, task).params
        logits_BK = model(x_BCHW)
        assert logits_BK.shape == (2, task.classes)
        assert logits_BK.isfinite().all()
        looks.append(bool(logits_BK[0].ne(logits_BK[1]).any()))
    # Published tables hold networks that pass nothing on; among what is to be deployed there must be none.
    assert space.benchmark or all(looks), "the answer has to depend on the image"


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
            if parameter.ordered and more in parameter.values:
                dearer = space.cost({**architecture, parameter.name: more}, task)
                assert dearer.params >= cost.params, parameter
                assert dearer.macs >= cost.macs, parameter
                # In published tables there are choices without a cost: heads that share a width, shortcuts.
                assert space.benchmark or dearer != cost, f"{parameter.name} costs nothing"


def test_what_is_not_ordered_is_cheaper_somewhere_where_there_is_more_of_it(any_space: Space) -> None:
    """The flag is not there to let a parameter off."""
    unordered, cheaper = set(), set()
    for task in (TASKS["8px-gray"], TASKS["32px-colour"]):
        for parameter in any_space.parameters(task):
            unordered |= set() if parameter.ordered else {parameter.name}
            for architecture in members(any_space, task, 0 if parameter.ordered else 300):
                more = architecture[parameter.name] + parameter.step
                if more in parameter.values and parameter.name not in cheaper:
                    cost = any_space.cost(architecture, task)
                    other = any_space.cost({**architecture, parameter.name: more}, task)
                    cheaper |= {parameter.name} if other.params < cost.params or other.macs < cost.macs else set()
    assert unordered <= cheaper


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


def test_a_space_that_refuses_a_task_says_who_takes_it(any_space: Space) -> None:
    space = any_space
    for task in TASKS.values():
        if space.refuses(task):
            with pytest.raises(InvalidRequest, match=r"does not take images of .*; these spaces do: .*vit") as caught:
                space.require(task)
            assert caught.value.field == "search.space"
            with pytest.raises(InvalidRequest, match="does not take") as caught:
                space.check(space.smallest(task), task)
            assert caught.value.field == "student.space"
        else:
            space.require(task)


def test_stock_students_are_timms_own_and_others_ours(space: Space, task: Task) -> None:
    import timm

    import archsearch.models

    for architecture in members(space, task, 3):
        model = space.model(architecture, task)
        assert model.stock == space.stock(task) == (model.name not in dir(archsearch.models))
        assert timm.is_model(model.name)


def test_the_cardinality_counts_the_members(space: Space, task: Task) -> None:
    count = 1
    for parameter in space.parameters(task):
        count *= sum(1 for value in range(parameter.low, parameter.high + 1, parameter.step))
    assert space.cardinality(task) == count > 100
