"""What every space promises, on tasks of the sizes people have."""

# B batch, C channels, H W space, K classes; X whatever an example is

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, cast

import pytest
import timm
import torch
from torch import Tensor, nn

import archsearch.models  # noqa: F401  (registers with timm)
from archsearch import domains
from archsearch.data import Task
from archsearch.data.shape import Shape
from archsearch.domains.images.task import ImageTask
from archsearch.domains.text.task import TextTask
from archsearch.errors import InvalidRequest
from archsearch.hardware import measure_model, size_bytes
from archsearch.request import Architecture
from archsearch.spaces import Space
from archsearch.spaces.count import KINDS

SIDES = {8: 10, 28: 10, 32: 100, 64: 20, 224: 10}  # pixels, and classes to tell apart at that size
CHANNELS = {"gray": 1, "colour": 3}


def task_of(classes: int, channels: int, height: int, width: int) -> ImageTask:
    return ImageTask(classes, channels, height, width, (0.5,) * channels, (0.25,) * channels)


TASKS = {
    f"{side}px-{name}": task_of(classes, channels, side, side)
    for side, classes in SIDES.items()
    for name, channels in CHANNELS.items()
}
# Few words, for a table of embeddings is as large as they are many.
TEXTS = {
    "12 tokens": TextTask(2, 12, 40, 0, pair=False),
    "300 tokens": TextTask(5, 300, 450, 0, pair=True, kind="multilabel"),
}
_MANY_PIXELS = Shape((3, 32, 32)).bytes  # beyond which one look at a network is enough
# Published tables are of 32 and 224 pixels; on these a space that is there to compare with them is tested.
BENCHMARKED = ("8px-gray", "32px-colour", "224px-colour")
SMALL = 100_000  # parameters; a space to deploy from goes down at least as far
POOLED = (3, 32)  # least and most pixels a side of a last map that is worth pooling
UNORDERED = 300  # members looked at for one that is cheaper with more of a parameter that is not ordered


class SpaceContract:
    """Subclass it as `Test…` and name the spaces.

    Attributes:
        spaces: Whom the tests are for.
        tasks: What they are tested on, each on those it takes: TASKS of images, or TEXTS.
    """

    spaces: ClassVar[Iterable[Space]] = ()
    tasks: ClassVar[Mapping[str, Any]] = TASKS

    def _each(self, subtests: pytest.Subtests) -> Iterator[tuple[Space, Any, AbstractContextManager[None]]]:
        """Every space with every task it takes, and the subtest to look at them in."""
        for space in self.spaces:
            for name, task in self.tasks.items():
                if space.refusal(task) is None and not (space.benchmark and name in TASKS.keys() - {*BENCHMARKED}):
                    yield space, task, subtests.test(space=space.name, task=name)

    def test_there_are_spaces_to_test_and_tasks_they_take(self) -> None:
        assert list(self.spaces), "`spaces` names those to test"
        for space in self.spaces:
            assert len(space.doc) > 10
            assert any(space.refusal(task) is None for task in (TASKS | dict(self.tasks)).values()), space.name

    def test_the_closed_form_is_what_torch_counts_runs_and_stores(self, subtests: pytest.Subtests) -> None:
        for space, task, subtest in self._each(subtests):
            with subtest:
                smallest, largest, other = _members(space, task, 1)
                for architecture in (largest,) if _shape(task).sizes[0] == 3 else (smallest, other):
                    _counted_as_by_torch(space, architecture, task)

    def test_odd_sides_and_rectangles_are_counted_too(self, subtests: pytest.Subtests) -> None:
        task = task_of(7, 3, 33, 47)
        for space in self.spaces:
            if space.refusal(task) is None:
                with subtests.test(space=space.name):
                    _counted_as_by_torch(space, _members(space, task, 1)[-1], task)

    def test_the_last_map_is_worth_pooling(self, subtests: pytest.Subtests) -> None:
        for space, task, subtest in self._each(subtests):
            if isinstance(task, ImageTask) and not space.benchmark and task.height >= 28:
                with subtest:
                    network: Any = _on_meta(space, space.smallest(task), task).eval()
                    *before, height, width = network.forward_features(_shape(task).empty(1)).shape
                    if len(before) == 1:  # B × tokens × width
                        height = width = math.isqrt(height)
                    assert POOLED[0] <= min(height, width) <= POOLED[1]

    def test_a_small_member_has_the_parameters_counted_and_answers(self, subtests: pytest.Subtests) -> None:
        for space, task, subtest in self._each(subtests):
            with subtest:
                small = _by_macs(space, _members(space, task, 8), task)
                assert space.benchmark or space.cost(small[0], task).params <= SMALL
                looks = [_looks(space, a, task) for a in small[: 3 if _shape(task).bytes <= _MANY_PIXELS else 1]]
                # Published tables hold networks that pass nothing on; among what is to be deployed there must be none.
                assert space.benchmark or all(looks), "the answer has to depend on the example"

    def test_the_seed_decides_the_initial_weights(self, subtests: pytest.Subtests) -> None:
        for space, task, subtest in self._each(subtests):
            with subtest:
                first, again, other = (_initial(space, task, seed) for seed in (1, 1, 2))
                assert all(a.equal(b) for a, b in zip(first, again, strict=True))
                assert not all(a.equal(b) for a, b in zip(first, other, strict=True))

    def test_architectures_and_arguments_are_plain_json(self, subtests: pytest.Subtests) -> None:
        for space, task, subtest in self._each(subtests):
            with subtest:
                for architecture in _members(space, task):
                    arguments = dict(space.model(architecture, task).args)
                    assert json.loads(json.dumps(architecture)) == architecture
                    assert json.loads(json.dumps(arguments)) == arguments

    def test_more_of_anything_never_costs_less(self, subtests: pytest.Subtests) -> None:
        for space, task, subtest in self._each(subtests):
            with subtest:
                for architecture in _members(space, task, 10):
                    cost = space.cost(architecture, task)
                    for name, more in _steps(space, architecture, task, ordered=True):
                        dearer = space.cost(more, task)
                        assert dearer.params >= cost.params, name
                        assert dearer.macs >= cost.macs, name
                        # In published tables there are choices without a cost: heads that share a width, shortcuts.
                        assert space.benchmark or dearer != cost, f"{name} costs nothing"

    def test_what_is_not_ordered_is_cheaper_somewhere_where_there_is_more_of_it(
        self, subtests: pytest.Subtests
    ) -> None:
        """The flag is not there to let a parameter off."""
        for space in self.spaces:
            with subtests.test(space=space.name):
                unordered: set[str] = set()
                cheaper: set[str] = set()
                for task in (TASKS["8px-gray"], TASKS["32px-colour"]):
                    if space.refusal(task) is None:
                        unordered |= {p.name for p in space.parameters(task) if not p.ordered}
                        cheaper |= _cheaper_with_more(space, task) if unordered - cheaper else set()
                assert unordered <= cheaper

    def test_every_member_passes_the_check(self, subtests: pytest.Subtests) -> None:
        for space, task, subtest in self._each(subtests):
            with subtest:
                for architecture in _members(space, task):
                    space.check(architecture, task)

    def test_what_is_no_member_is_refused_with_its_field(self, subtests: pytest.Subtests) -> None:
        for space, task, subtest in self._each(subtests):
            with subtest:
                for architecture, field, detail in _no_members(space, task):
                    with pytest.raises(InvalidRequest) as caught:
                        space.check(architecture, task)
                    assert (caught.value.field, detail in caught.value.detail) == (field, True), caught.value

    def test_a_space_that_refuses_a_task_says_who_takes_it(self, subtests: pytest.Subtests) -> None:
        for space in self.spaces:
            for name, task in TASKS.items():
                with subtests.test(space=space.name, task=name):
                    if space.refusal(task):
                        with pytest.raises(InvalidRequest, match=r"does not take .*; these spaces do: .*vit") as caught:
                            space.require(task)
                        assert caught.value.field == "search.space"
                        with pytest.raises(InvalidRequest, match="does not take") as caught:
                            space.check(space.smallest(task), task)
                        assert caught.value.field == "student.space"
                    else:
                        space.require(task)

    def test_stock_students_are_their_librarys_own_and_others_ours(self, subtests: pytest.Subtests) -> None:
        for space, task, subtest in self._each(subtests):
            with subtest:
                for architecture in _members(space, task, 3):
                    recipe = space.model(architecture, task)
                    assert recipe.stock == space.stock(task) == _is_stock(space, architecture, task)

    def test_the_cardinality_counts_the_members(self, subtests: pytest.Subtests) -> None:
        for space, task, subtest in self._each(subtests):
            with subtest:
                values = [len(range(p.low, p.high + 1, p.step)) for p in space.parameters(task)]
                assert space.cardinality(task) == math.prod(values) > 100


def _members(space: Space, task: Task, count: int = 4) -> list[Architecture]:
    """The smallest, the largest and some between."""
    rng = random.Random(f"{space.name}/{_shape(task).sizes[0]}/{_shape(task).sizes[1]}")
    some = [{p.name: rng.choice(p.values) for p in space.parameters(task)} for _ in range(count)]
    return [space.smallest(task), space.largest(task), *some]


def _by_macs(space: Space, architectures: list[Architecture], task: Task) -> list[Architecture]:
    return sorted(architectures, key=lambda architecture: space.cost(architecture, task).macs)


def _steps(
    space: Space, architecture: Architecture, task: Task, *, ordered: bool
) -> Iterator[tuple[str, Architecture]]:
    """Members one step away: more of one parameter of this kind, with its name."""
    for parameter in space.parameters(task):
        more = architecture[parameter.name] + parameter.step
        if parameter.ordered == ordered and more in parameter.values:
            yield parameter.name, {**architecture, parameter.name: more}


def _cheaper_with_more(space: Space, task: Task) -> set[str]:
    """Parameters that are not ordered of which more made a member cheaper."""
    found = set()
    for architecture in _members(space, task, UNORDERED):
        cost = space.cost(architecture, task)
        for name, more in _steps(space, architecture, task, ordered=False):
            if name not in found:
                other = space.cost(more, task)
                found |= {name} if other.params < cost.params or other.macs < cost.macs else set()
    return found


def _no_members(space: Space, task: Task) -> Iterator[tuple[Architecture, str, str]]:
    """What is no member, the field that is wrong, and what is said of it."""
    good, first = space.smallest(task), space.parameters(task)[0]
    yield {n: v for n, v in good.items() if n != first.name}, "student.architecture", f"{first.name!r} is missing"
    yield {**good, "colour": 1}, "student.architecture", "'colour' is no parameter"
    for value in (first.low - first.step, first.high + first.step):
        yield {**good, first.name: value}, f"student.architecture.{first.name}", "is not in"
    for p in space.parameters(task):
        if p.step > 1:
            yield {**good, p.name: p.low + 1}, f"student.architecture.{p.name}", f"in steps of {p.step}"


def _on_meta(space: Space, architecture: Architecture, task: Task) -> nn.Module:
    with torch.device("meta"):
        return space.build(architecture, task)


def _shape(task: Task) -> Shape:
    return domains.of(task).shape(task)


def _counted_as_by_torch(space: Space, architecture: Architecture, task: Task) -> None:
    network = _on_meta(space, architecture, task).requires_grad_(False)
    count = space.count(architecture, task)
    with _layers_that_run(network) as ran:
        measured = measure_model(network, _shape(task))
    assert space.cost(architecture, task) == measured
    stored = network.state_dict().values()
    assert size_bytes(count, "fp32") == sum(value.nbytes for value in stored), architecture
    halves = (value.half() if value.is_floating_point() else value for value in stored)
    assert size_bytes(count, "fp16") == sum(value.nbytes for value in halves), architecture
    # Latencies are predicted from the layers and the work of each kind.
    assert sum(count.work) == count.macs
    assert [work > 0 for work in count.work] == [layers > 0 for layers in count.layers]
    layers = dict(zip(KINDS, count.layers, strict=True))
    del layers["attention"]  # torch has no one module for it
    assert {kind: number for kind, number in layers.items() if number} == ran


@contextmanager
def _layers_that_run(network: nn.Module) -> Iterator[dict[str, int]]:
    """Layers that forward passes come by meanwhile, by kind of work."""
    ran: dict[str, int] = {}

    def note(module: nn.Module, inputs: object, output: object) -> None:
        kind = _kind(module)
        ran[kind] = ran.get(kind, 0) + 1

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    yield ran
    for hook in hooks:
        hook.remove()


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return "linear"
    conv = cast(nn.Conv2d, module)
    if conv.groups > 1:
        return "depthwise" if conv.groups == conv.in_channels else "grouped"
    return "conv" if conv.kernel_size[0] > 1 else "pointwise"


def _looks(space: Space, architecture: Architecture, task: Task) -> bool:
    """Whether the network's answers, which are finite, differ between two examples."""
    x_BX = _shape(task).noise(2)
    network = space.build(architecture, task)
    assert sum(weight.numel() for weight in network.parameters()) == space.cost(architecture, task).params
    for module in network.modules():
        if isinstance(module, nn.Dropout):  # would make any two answers differ
            module.eval()
    logits_BK = network(x_BX)
    assert logits_BK.shape == (2, task.classes)
    assert logits_BK.isfinite().all()
    return bool(logits_BK[0].ne(logits_BK[1]).any())


def _initial(space: Space, task: Task, seed: int) -> list[Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return list(space.build(space.smallest(task), task).state_dict().values())


def _is_stock(space: Space, architecture: Architecture, task: Task) -> bool:
    """Whether the library's own module defines the network, which timm knows by its name in any case."""
    recipe = space.model(architecture, task)
    if recipe.zoo != "timm":
        network: Any = _on_meta(space, architecture, task).network
        return type(network).__module__.startswith(f"{recipe.zoo}.")
    assert timm.is_model(recipe.name)
    return timm.models.model_entrypoint(recipe.name).__module__.startswith("timm.")
